"""Which form of a method a run computes: a checkpoint of another form is not continued without a word.

A strategy or plugin class whose default has changed says so with `method_version = 2`, and with `method_remedy` how the
earlier form comes back (both are declared by `traits.Traits`); an instance that was asked for the earlier form has
`method_version = 1`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.training.traits import trait
from clear.core.errors import CheckpointError

if TYPE_CHECKING:
    from clear.core.types import Plain

# Fields of strategies and plugins that say what they compute; they follow from the config and are no state.
VERSION_FIELDS = frozenset({'method_version', 'method_remedy'})


def method_versions(strategy) -> dict[str, int]:
    """Class name -> version of the strategy and its plugins, where it is not 1."""
    return {name: version for name, (version, _) in _methods(strategy).items() if version != 1}


def check_versions(path: Path, saved: dict[str, int], strategy) -> None:
    """Refuse a checkpoint that another form of a method wrote.

    Raises:
        CheckpointError: naming the method and what brings its earlier form back.
    """
    methods = _methods(strategy)
    for name in sorted({*saved, *methods}):
        then, (now, remedy) = saved.get(name, 1), methods.get(name, (1, ''))
        if then == now:
            continue
        what = f'{path} was written by form {then} of {name}; this run would compute form {now}, another method.'
        if then > now:
            raise CheckpointError(f'{what} Leave out of the config what asks for the earlier form, or take a newer '
                                  'version of the framework.')
        raise CheckpointError(f'{what} {remedy.rstrip(".")}, so that the run goes on as it began.' if remedy else
                              f'{what} There is no way back to the earlier form: start the run anew.')


def without_remedies(config: dict[str, Plain], saved: dict[str, Plain], strategy) -> dict[str, Plain]:
    """`config` without the keys that a remedy of the strategy names and the saved config does not have.

    The run that wrote `saved` computed that form before there was a key to ask for it.
    """
    text = ' '.join(remedy for _, remedy in _methods(strategy).values())

    def trim(new: Plain, old: Plain) -> Plain:
        if isinstance(new, dict) and isinstance(old, dict):
            return {key: trim(value, old[key]) if key in old else value for key, value in new.items()
                    if key in old or f'{key}={value!r}' not in text}
        if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
            return [trim(*pair) for pair in zip(new, old)]
        return new

    return {**config, 'cl_strategy': trim(config['cl_strategy'], saved['cl_strategy'])} if text.strip() else config


def _methods(strategy) -> dict[str, tuple[int, str]]:
    """Class name -> version and remedy of everything that has a version of its own."""
    return {type(part).__name__: (trait(part, 'method_version'), trait(part, 'method_remedy'))
            for part in _parts(strategy)}


def _parts(strategy) -> Iterator[object]:
    for part in (strategy, *strategy.plugins):
        yield part
        if hasattr(part, 'storage_policy'):  # a memory has forms of its own
            yield part.storage_policy
