"""Lock image and text towers, whole or in part: by names of parameters, or by groups counted from the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from clear.core.checks import check_flag, check_whole
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, nearest
from clear.core.logs import logger
from clear.models.adapters.lora_weights import add_lora
from clear.models.towers.groups import parameter_groups

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.models.towers.base import Tower

BY_NAME, BY_GROUP = ('locked', 'keywords'), ('unlocked_groups', 'freeze_bn_stats')


@dataclass(frozen=True)
class LockReport:
    """What a lock left of a tower.

    Args:
        trainable, frozen: names of parameters.
        stays_in_eval: whether `train()` leaves the whole tower in eval mode.
        num_frozen, num_trainable: scalars without and with gradient.
    """

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    stays_in_eval: bool
    num_frozen: int
    num_trainable: int

    def __str__(self) -> str:
        mode = 'always in eval mode' if self.stays_in_eval else 'follows train() and eval()'
        return (f'{self.num_frozen:,} of {self.num_frozen + self.num_trainable:,} parameters are locked, '
                f'{self.num_trainable:,} train; {mode}.')


def is_locked(name: str, locked: bool, keywords: Sequence[str]) -> bool:
    """Whether a lock freezes a parameter of this name.

    A locked tower trains what any `!keyword` matches; a tower that is not locked freezes what any plain keyword
    matches. A keyword matches names that contain it; the other kind does nothing, and order does not matter.
    """
    if locked:
        return not any(keyword[1:] in name for keyword in keywords if keyword.startswith('!'))
    return any(keyword in name for keyword in keywords if not keyword.startswith('!'))


def lock_tower(tower: Tower, locked: bool = True, keywords: str | Iterable[str] = ()) -> LockReport:
    """Lock a tower, or let it train, but for what the keywords name.

    What was added to it in order to train (adapters, prompt vectors: `tower.added_parameters`) keeps its gradient. A
    locked tower stays in eval mode, also where keywords unlock a part of it, so that BatchNorm and dropout do not
    move what is frozen; a text tower with an adapter does not. Parameters that the embedding does not read stay
    frozen whatever is said.

    Args:
        locked: whether parameters are frozen that no keyword names.
        keywords: parts of names, as a list or separated by commas: with `!` in front it unlocks
            (`'!resblocks.11.,!ln_post'` of a locked tower), without it locks (`'embedding'` of one that trains). Both
            kinds may be given; only one of them does anything.

    Raises:
        ConfigError: if a keyword matches no parameter; nothing is changed then.
    """
    check_flag('locked', locked)
    keywords = [keyword.strip() for keyword in keywords.split(',')] if isinstance(keywords, str) else list(keywords)
    keywords = [keyword for keyword in keywords if keyword]
    names = [name for name, _ in tower.named_parameters()]
    _check_keywords(keywords, names, locked)
    in_eval = locked and not tower.has_adapter
    return _apply(tower, {name: not is_locked(name, locked, keywords) for name in names}, in_eval)


def lock_groups(tower: Tower, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> LockReport:
    """Lock a tower but for its last groups (LiT, Zhai et al. 2022, arXiv:2111.07991).

    Groups are those of `parameter_groups`, as in open_clip: what comes before the blocks, each block, the projection,
    which therefore is the first group from the end. With none unlocked the tower stays in eval mode; otherwise it
    follows `train()`.

    Args:
        unlocked_groups: how many of the last groups train.
        freeze_bn_stats: BatchNorm layers of locked groups keep their statistics, too.

    Raises:
        ConfigError: if the tower has no chain of blocks, or not so many groups.
    """
    check_whole('unlocked_groups', unlocked_groups, 0)
    check_flag('freeze_bn_stats', freeze_bn_stats)
    groups = parameter_groups(tower.model) if unlocked_groups else []
    if unlocked_groups > len(groups):
        raise ConfigError(f'unlocked_groups is {unlocked_groups}, and the network has {len(groups)} groups, from '
                          f'{groups[0][0]} to {groups[-1][-1]}. Use at most {len(groups)}.')
    free = {f'model.{name}' for group in groups[len(groups) - unlocked_groups:] for name in group}
    report = _apply(tower, {name: name in free for name, _ in tower.named_parameters()}, not unlocked_groups)
    if freeze_bn_stats and unlocked_groups:
        asleep = [name for name, module in tower.named_modules() if isinstance(module, _BatchNorm)
                  and not any(value.requires_grad for value in module.parameters())]
        tower.frozen_modules = tuple(sorted({*tower.frozen_modules, *asleep}))
    return report


def lock_by_config(tower: Tower, options: Options) -> LockReport:
    """What `trainable=dict(...)` of a tower asks for, and say what came of it.

    Args:
        options: those of `lock_tower` or of `lock_groups`; `grad_checkpointing`, see `Tower`; and `lora`, a dict of
            options of `add_lora`, whose changes train while the rest is locked unless `locked` says otherwise.

    Raises:
        ConfigError: for an unknown option or a mixture of both kinds.
    """
    known = (*BY_NAME, *BY_GROUP, 'grad_checkpointing', 'lora')
    for key in options:
        if key not in known:
            raise ConfigError(f"trainable has no option '{key}'. Nearest: {nearest(key, known) or ', '.join(known)}.")
    options = dict(options)
    if check_flag('trainable.grad_checkpointing', options.pop('grad_checkpointing', False)):
        tower.set_grad_checkpointing()
    lora = options.pop('lora', None)
    if not set(options) <= set(BY_NAME) and not set(options) <= set(BY_GROUP):
        raise ConfigError(f'trainable has {", ".join(options)}: lock either by {" and ".join(BY_NAME)}, or by '
                          f'{" and ".join(BY_GROUP)}.')
    if lora is not None:
        if not isinstance(lora, Mapping):
            raise ConfigError(f'trainable.lora must be a dict such as dict(rank=8, alpha=16), got {lora!r}.')
        check_keys('trainable.lora', lora, accepted_arguments(add_lora) - {'network'}, 'lora')
        names = add_lora(tower.model, **lora)
        tower.added_parameters = (*tower.added_parameters, *(f'model.{name}' for name in names))
        tower.has_adapter = tower.has_adapter or tower.drops_out_with_adapter
    if set(options) & set(BY_GROUP):
        report = lock_groups(tower, **options)
    else:
        report = lock_tower(tower, **{'locked': lora is not None, **options})
    logger.info('%s: %s', type(tower).__name__, report)
    return report


def _check_keywords(keywords: Sequence[str], names: Sequence[str], locked: bool) -> None:
    for keyword in keywords:
        part = keyword.removeprefix('!')
        if not part or not any(part in name for name in names):
            parts = sorted({piece for name in names for piece in name.split('.')})
            near = nearest(part, parts) or ', '.join(f"'{name}'" for name in names[:3])
            raise ConfigError(f"lock keyword '{keyword}' matches no parameter of the tower and would do nothing. "
                              f'Nearest: {near}.')
        if keyword.startswith('!') != locked:
            logger.warning("lock keyword '%s' does nothing: a tower that %s.", keyword, 'is locked needs !keyword to '
                           'unlock a part' if locked else 'trains needs a keyword without ! to lock a part')


def _apply(tower: Tower, wanted: Mapping[str, bool], stays_in_eval: bool) -> LockReport:
    tower.set_trainable(any(wanted.values()))  # what the embedding does not read stays frozen
    added = set(tower.added_parameters)
    for name, value in tower.named_parameters():
        if name not in added and not wanted[name]:
            value.requires_grad_(False)
            value.grad = None  # A gradient from before would still be applied.
    tower.frozen_modules = ('',) if stays_in_eval else ()
    parameters = dict(tower.named_parameters())
    frozen = tuple(name for name, value in parameters.items() if not value.requires_grad)
    trainable = tuple(name for name, value in parameters.items() if value.requires_grad)
    return LockReport(trainable, frozen, stays_in_eval, sum(parameters[name].numel() for name in frozen),
                      sum(parameters[name].numel() for name in trainable))
