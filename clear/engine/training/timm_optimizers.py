"""timm's optimisers by their names there, `timm/adamp`, looked up when one is built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from clear.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch.optim import Optimizer

PREFIX = 'timm/'
_LOOKAHEAD = 'lookahead_'
_RENAMED = {'nvnovograd': 'novograd'}  # of older timm, the same class


def timm_optimizer(key: str) -> Callable[..., Optimizer] | None:
    """What makes the optimiser `timm/NAME`, with the defaults that timm gives it; None for a key of another form.

    `timm/lookahead_NAME` steps back every few steps (Zhang et al. 2019, arXiv:1907.08610); `lookahead_alpha` and
    `lookahead_k` are arguments of it.

    Raises:
        ConfigError: for a name that timm does not know, an optimiser of another library (apex, bitsandbytes), and those
            that differentiate gradients.
    """
    if not key.startswith(PREFIX):
        return None
    from timm.optim import get_optimizer_info, list_optimizers

    name = key.removeprefix(PREFIX).lower()
    base = name.removeprefix(_LOOKAHEAD)
    base = _RENAMED.get(base, base)
    known = list_optimizers()
    if base not in known:
        raise ConfigError(f"timm has no optimiser '{base}'. Nearest: {nearest(base, known) or ', '.join(known)}.")
    info = get_optimizer_info(base)
    if isinstance(info.opt_class, str):
        library = info.opt_class.partition('.')[0]
        raise ConfigError(f"'{key}' is an optimiser of {library}, which is not used here; PyTorch's own, such as "
                          "dict(type='AdamW', fused=True), are as fast.")
    if info.second_order:
        raise ConfigError(f"'{key}' differentiates gradients, which the losses and data-parallel training here do not "
                          'keep differentiable.')
    defaults = dict(info.defaults or {})
    if info.has_momentum:
        defaults.setdefault('momentum', 0.9)
    made = partial(info.opt_class, **defaults)
    return _with_lookahead(made) if name.startswith(_LOOKAHEAD) else made


def timm_names() -> list[str]:
    """`timm/NAME` of every optimiser that can be built."""
    from timm.optim import get_optimizer_info, list_optimizers

    infos = {name: get_optimizer_info(name) for name in list_optimizers()}
    return [f'{PREFIX}{name}' for name, info in infos.items()
            if not isinstance(info.opt_class, str) and not info.second_order]


def _with_lookahead(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    from timm.optim import Lookahead

    @wraps(make.func)
    def build(*args: Any, lookahead_alpha: float = 0.5, lookahead_k: int = 6, **kwargs: Any) -> Optimizer:
        return Lookahead(make(*args, **kwargs), alpha=lookahead_alpha, k=lookahead_k)

    del build.__wrapped__  # its arguments are not all
    return build
