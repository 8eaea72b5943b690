"""Steps that leave candidates out before the best k of each class are taken, registered in `FILTERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

import numpy as np
import pyarrow

from clear.core.checks import check_number, check_whole
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.curation.retrieval.choice import Candidates

Filter = TypeVar('Filter', bound=type)


class About(Protocol):
    """What a filter may ask about the candidates that it is given; rows are in their order."""

    def columns(self, kind: str, names: Sequence[str]) -> pyarrow.Table:
        """Columns of the table that a stage made, null where it has no such id."""

    def cosines(self, texts: Sequence[str]) -> np.ndarray:
        """(T, M) with texts that the filter's `texts` names."""


class CandidateFilter:
    """A step that says which candidates stay. Add one with `@register_filter`.

    Class attributes:
        READS: kinds of tables that it asks for, e.g. 'images'.
        BACKGROUND: whether it also looks at candidates of the background.
    """

    READS: ClassVar[tuple[str, ...]] = ()
    BACKGROUND: ClassVar[bool] = True

    @property
    def texts(self) -> Sequence[str]:
        """What it wants cosines with."""
        return ()

    def keep(self, candidates: Candidates, about: About) -> np.ndarray:
        """(M,) bool."""
        raise NotImplementedError


FILTERS: dict[str, type[CandidateFilter]] = {}


def register_filter(made: Filter) -> Filter:
    """Register a class of `CandidateFilter` by its name."""
    FILTERS[made.__name__] = made
    return made


def build_filter(where: str, given: Options) -> CandidateFilter:
    """The filter of a config.

    Raises:
        ConfigError: for one that there is not, or arguments that do not fit.
    """
    kind = given.get('type') if isinstance(given, Mapping) else None
    if kind not in FILTERS:
        raise ConfigError(f'{where} is {given!r}; expected a dict with type, one of {", ".join(sorted(FILTERS))}.'
                          f'{suggestion(kind, FILTERS) if isinstance(kind, str) else ""}')
    arguments = {key: value for key, value in given.items() if key != 'type'}
    check_keys(where, arguments, accepted_arguments(FILTERS[kind]), kind)
    make: Callable[..., CandidateFilter] = FILTERS[kind]
    try:
        return make(**arguments)
    except TypeError as error:
        raise ConfigError(f'{where}: {error}.') from error


@register_filter
class MinScore(CandidateFilter):
    """Leave out what scores below a cosine, of classes alone.

    Args:
        min_score: -1 to 1.
    """

    BACKGROUND = False

    def __init__(self, min_score: float):
        self.min_score = check_number('MinScore.min_score', min_score, -1, 1)

    def keep(self, candidates: Candidates, about: About) -> np.ndarray:
        return candidates.scores >= np.float32(self.min_score)


@register_filter
class ImageShape(CandidateFilter):
    """Leave out small and narrow images.

    Args:
        min_edge: pixels of the shorter side.
        max_aspect_ratio: longer side by shorter one; None = any.
    """

    READS = ('images',)

    def __init__(self, min_edge: int = 0, max_aspect_ratio: float | None = None):
        self.min_edge = check_whole('ImageShape.min_edge', min_edge, 0)
        self.max_aspect_ratio = max_aspect_ratio if max_aspect_ratio is None else check_number(
            'ImageShape.max_aspect_ratio', max_aspect_ratio, 1)

    def keep(self, candidates: Candidates, about: About) -> np.ndarray:
        sizes = about.columns('images', ['width', 'height'])
        width, height = (sizes[name].fill_null(0).to_numpy().astype(np.int64) for name in ('width', 'height'))
        short, long = np.minimum(width, height), np.maximum(width, height)
        kept = (short > 0) & (short >= self.min_edge)
        return kept if self.max_aspect_ratio is None else kept & (long <= self.max_aspect_ratio * short)


@register_filter
class License(CandidateFilter):
    """Leave out photos whose license is not among those allowed.

    Args:
        allow: names as the records have them (`license_name`); `*` stands for any signs, case does not matter.
    """

    READS = ('records',)

    def __init__(self, allow: Sequence[str]):
        if isinstance(allow, str) or not allow or not all(isinstance(name, str) and name for name in allow):
            raise ConfigError(f"License.allow is {allow!r}; expected a list such as ['Attribution License'].")
        self.allow = [name.casefold() for name in allow]

    def keep(self, candidates: Candidates, about: About) -> np.ndarray:
        names = about.columns('records', ['license_name'])['license_name'].combine_chunks().dictionary_encode()
        allowed = [name is not None and any(fnmatchcase(name.casefold(), pattern) for pattern in self.allow)
                   for name in names.dictionary.to_pylist()]
        places = names.indices.fill_null(len(allowed)).to_numpy(zero_copy_only=False)
        return np.array([*allowed, False])[places]


@register_filter
class Unlike(CandidateFilter):
    """Leave out what is too much like a text, whatever its class, the background too: nudity, text, drawings.

    Args:
        prompts: the texts; prefix and templates are those of the classes.
        max_score: the highest cosine with any of them that stays.
    """

    def __init__(self, prompts: Sequence[str], max_score: float):
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts or not all(isinstance(text, str) and text.strip() for text in prompts):
            raise ConfigError(f'Unlike.prompts is {prompts!r}; expected texts.')
        self.prompts = prompts
        self.max_score = check_number('Unlike.max_score', max_score, -1, 1)

    @property
    def texts(self) -> Sequence[str]:
        return self.prompts

    def keep(self, candidates: Candidates, about: About) -> np.ndarray:
        return about.cosines(self.prompts).max(axis=0) <= np.float32(self.max_score)
