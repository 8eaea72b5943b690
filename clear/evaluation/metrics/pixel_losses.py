"""Losses of heads for pixels: outputs (N, O, H, W) against targets, over the pixels that are valid."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError

if TYPE_CHECKING:
    from clear.core.types import Options

VOID = -100  # of torch: a target that does not count
PixelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def pixel_loss(cfg: Options) -> PixelLoss:
    """A loss by name: `loss(outputs, values, valid)` is a scalar, 0 where no pixel is valid.

    | type              | for                     | options                                                    |
    |-------------------|-------------------------|------------------------------------------------------------|
    | `cross_entropy`   | classes                 | `weight` of each class; `ignore`, a class that is left out |
    | `focal`           | classes                 | the same, and `gamma`                                      |
    | `sparse_label`    | classes                 |                                                            |
    | `bce_logits`      | mask                    |                                                            |
    | `l1`, `l2`        | depth, edges, image ... |                                                            |
    | `weighted_l1`     | edges                   |                                                            |
    | `nonzero_l1`      | luminance               |                                                            |
    | `nonzero_l2`      | luminance               |                                                            |
    | `epe`             | flow                    |                                                            |

    Outputs are (N, O, H, W); values (N, H, W) ids of classes or a mask, else (N, O, H, W); valid (N, H, W) bool. What
    values hold where they are not valid is of no consequence, as long as it is a number.

    Raises:
        ConfigError: for another type, unknown options, or values out of their range. A call raises ValueError for
            shapes that do not fit.

    Example:
        >>> loss = pixel_loss(dict(type='l1'))
        >>> values, valid = torch.tensor([[[[1.0, 9.0]]]]), torch.tensor([[[True, False]]])
        >>> loss(torch.tensor([[[[3.0, 3.0]]]]), values, valid)
        tensor(2.)
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"loss is {cfg!r}; expected dict(type='l1'), of type {', '.join(LOSSES)}.")
    name = check_choice('loss.type', cfg['type'], LOSSES)
    options = {key: value for key, value in cfg.items() if key != 'type'}
    check_keys('loss', options, accepted_arguments(LOSSES[name]) - {'outputs', 'values', 'valid'}, name)
    _check_options(options)
    return functools.partial(LOSSES[name], **options)


def cross_entropy(outputs: Tensor, values: Tensor, valid: Tensor, *, weight: Sequence[float] | None = None,
                  ignore: int | None = None) -> Tensor:
    """With weights, the weighted mean: divided by the sum of the weights of all pixels that count."""
    targets = _class_targets(outputs, values, valid, ignore)
    return _weighted_mean(functional.log_softmax(outputs, 1), targets, weight)


def focal(outputs: Tensor, values: Tensor, valid: Tensor, *, gamma: float = 2.0,
          weight: Sequence[float] | None = None, ignore: int | None = None) -> Tensor:
    """Cross-entropy times (1 - p)^gamma, p of the true class (Lin et al. 2017, arXiv:1708.02002)."""
    targets = _class_targets(outputs, values, valid, ignore)
    log_shares = functional.log_softmax(outputs, 1)
    return _weighted_mean((1 - log_shares.exp())**gamma * log_shares, targets, weight)


def sparse_label(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """ViRB's code: whether there is any class but 0, from the first output; plus the cross-entropy of which, over
    pixels that have one, of outputs that are 0 where the first says no.
    """
    there = bce_logits(outputs[:, :1], values != 0, valid)
    return there + cross_entropy(outputs * (outputs[:, :1] > 0), values, valid, ignore=0)


def bce_logits(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """Of a mask, from one logit for each pixel."""
    _check_shape(outputs[:, 0] if outputs.shape[1] == 1 else outputs, values, valid)
    errors = functional.binary_cross_entropy_with_logits(outputs[:, 0], values.to(outputs.dtype), reduction='none')
    return _mean(errors, valid)


def l1(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """Over valid pixels and all channels."""
    _check_shape(outputs, values, valid)
    return _mean((outputs - values).abs().mean(1), valid)


def l2(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """The square, over valid pixels and all channels."""
    _check_shape(outputs, values, valid)
    return _mean((outputs - values).square().mean(1), valid)


def weighted_l1(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """Each error times its target (ViRB's code): of thin edges the background would decide alone."""
    _check_shape(outputs, values, valid)
    return _mean(((outputs - values).abs() * values).mean(1), valid)


def nonzero_l1(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """Over targets that are not 0 (ViRB's code)."""
    return l1(outputs, values, _nonzero(values, valid))


def nonzero_l2(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """The square, over targets that are not 0 (ViRB's code)."""
    return l2(outputs, values, _nonzero(values, valid))


def epe(outputs: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """The end-point error of flow: the length of the difference, in pixels."""
    _check_shape(outputs, values, valid)
    return _mean((outputs - values).norm(dim=1), valid)


LOSSES: dict[str, Callable[..., Tensor]] = {each.__name__: each for each in (
    cross_entropy, focal, sparse_label, bce_logits, l1, l2, weighted_l1, nonzero_l1, nonzero_l2, epe)}


def _check_options(options: Mapping[str, object]) -> None:
    if options.get('weight') is not None:
        if not isinstance(options['weight'], (list, tuple)) or not options['weight']:
            raise ConfigError(f"loss.weight is {options['weight']!r}; expected a number for each class.")
        for value in options['weight']:
            check_number('loss.weight', value, 0)
    if 'gamma' in options:
        check_number('loss.gamma', options['gamma'], 0)
    if options.get('ignore') is not None:
        check_whole('loss.ignore', options['ignore'], 0)


def _class_targets(outputs: Tensor, values: Tensor, valid: Tensor, ignore: int | None) -> Tensor:
    """(N, H, W) int64, VOID where a pixel does not count."""
    _check_shape(outputs[:, 0], values, valid)
    if outputs.shape[1] < 2:
        raise ValueError('a loss of classes needs an output for each class, two or more, and not one for each pixel.')
    counts = valid if ignore is None else valid & (values != ignore)
    return values.long().masked_fill(~counts, VOID)


def _weighted_mean(scores: Tensor, targets: Tensor, weight: Sequence[float] | None) -> Tensor:
    """Minus the mean of each pixel's score (N, C, H, W) of its class."""
    counts = targets != VOID
    if weight is None:
        return functional.nll_loss(scores, targets, ignore_index=VOID, reduction='sum') / counts.sum().clamp(min=1)
    if len(weight) != scores.shape[1]:
        raise ValueError(f'loss.weight has {len(weight)} values for {scores.shape[1]} classes.')
    weights = scores.new_tensor(list(weight))
    total = functional.nll_loss(scores, targets, weights, ignore_index=VOID, reduction='sum')
    whole = (weights[targets.masked_fill(~counts, 0)] * counts).sum()
    return total / whole.masked_fill(whole == 0, 1)


def _nonzero(values: Tensor, valid: Tensor) -> Tensor:
    _check_shape(values, values, valid)
    return valid & (values != 0).any(1)


def _mean(errors: Tensor, valid: Tensor) -> Tensor:
    # Multiplied and not picked out: a GPU would have to say how many there are. Errors are finite where targets are.
    return (errors * valid).sum() / valid.sum().clamp(min=1)


def _check_shape(outputs: Tensor, values: Tensor, valid: Tensor) -> None:
    pixels = (len(values), *values.shape[-2:])
    if outputs.shape != values.shape or valid.shape != pixels:
        raise ValueError(f'outputs {tuple(outputs.shape)}, targets {tuple(values.shape)} and valid '
                         f'{tuple(valid.shape)} do not fit each other.')
