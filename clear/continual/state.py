"""Everything a strategy remembers: its plugins, fields, metrics, loss, and what its model holds beside weights.

`encoding` turns them into tensors and plain values, and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

import torch
from torch import nn

from clear.continual.encoding import (
    Decoder,
    class_name,
    encode,
    encode_object,
    is_callable_config,
    is_saved_as,
    module_extras,
    short_name,
)
from clear.continual.samples import SampleIndex
from clear.continual.training.traits import rebuilt_fields, trait
from clear.continual.training.versions import VERSION_FIELDS
from clear.core.errors import CheckpointError

if TYPE_CHECKING:
    from clear.core.types import State

# Fields of every Avalanche strategy that are built from the config, belong to one batch, or are saved elsewhere. All
# others, of the strategy's own class, are state.
COMMON_FIELDS = frozenset({
    'model', 'optimizer', 'device', 'plugins', 'evaluator', 'clock', 'schedule', 'experience', 'is_training',
    'current_eval_stream', 'eval_every', 'train_epochs', 'train_mb_size', 'eval_mb_size', 'retain_graph',
    'adapted_dataset', 'dataloader', 'mbatch', 'mb_output', 'loss', 'optimized_param_id', '_criterion',
    '_distributed_check', '_eval_streams', '_experiences', '_stop_training'})


class StrategyState(TypedDict):
    """What `strategy_state` finds, encoded; `schedule` lies beside it in a checkpoint."""

    plugins: dict[str, State]
    fields: State
    metrics: list[State]
    last_metrics: State
    model_extras: dict[str, State]
    schedule: NotRequired[State]
    criterion: NotRequired[State]


def strategy_state(strategy, index: SampleIndex) -> StrategyState:
    """What `strategy` (Avalanche, under the engine's mix-in) remembers, beside model weights and optimiser.

    Raises:
        CheckpointError: naming what is of a kind that cannot be saved.
    """
    index.know(_live_parts(strategy))
    plugins = {name: encode_object(plugin, index, name) for name, plugin in _stateful_plugins(strategy).items()}
    fields = {name: encode(getattr(strategy, name), index, name) for name in _own_fields(strategy)}
    metrics = [encode_object(metric, index, f'metrics[{position}]')
               for position, metric in enumerate(strategy.evaluator.metrics)]
    last_metrics = {name: value for name, value in strategy.evaluator.last_metric_results.items()
                    if isinstance(value, (int, float, torch.Tensor))}
    criterion = _criterion_state(strategy, index)
    return dict(plugins=plugins, fields=fields, metrics=metrics, last_metrics=encode(last_metrics, index, 'metrics'),
                schedule=strategy.schedule.state_dict(), model_extras=module_extras(strategy.model, index, 'model'),
                **({'criterion': criterion} if criterion else {}))


def _criterion_state(strategy, index: SampleIndex) -> State | None:
    """What a loss remembers, e.g. of the classes it has seen; None if nothing, or if it is a plugin too."""
    loss = getattr(strategy, '_criterion', None)
    if not isinstance(loss, nn.Module) or any(loss is plugin for plugin in strategy.plugins):
        return None
    state = {name: encode(value, index, name) for name, value in loss.state_dict().items()}
    extras = module_extras(loss, index, 'loss')
    return {'class': class_name(type(loss)), 'state': state, 'extras': extras} if state or extras else None


def loss_has_state(strategy) -> bool:
    """Whether the loss of a strategy has buffers, which every process must keep alike."""
    loss = getattr(strategy, '_criterion', None)
    return isinstance(loss, nn.Module) and bool(loss.state_dict())


def _live_parts(strategy) -> dict[str, object]:
    """What plugins may hold on to: the strategy, its optimiser, its plugins, its model and all parts of that."""
    return {'the strategy': strategy, 'the optimiser': strategy.optimizer,
            **{f'plugin {position}': plugin for position, plugin in enumerate(strategy.plugins)},
            **{f'module {name}': module for name, module in strategy.model.named_modules()},
            **{f'parameter {name}': parameter for name, parameter in strategy.model.named_parameters()}}


def _stateful_plugins(strategy) -> dict[str, object]:
    return {f'{position}:{type(plugin).__name__}': plugin for position, plugin in enumerate(strategy.plugins)
            if not trait(plugin, 'is_saved_elsewhere')}


def _own_fields(strategy) -> list[str]:
    plugins = {id(plugin) for plugin in strategy.plugins}
    left_out = COMMON_FIELDS | VERSION_FIELDS | rebuilt_fields(type(strategy))
    return [name for name, value in vars(strategy).items()
            if name not in left_out and id(value) not in plugins and not is_callable_config(value)]


def load_model_state(strategy, weights: dict[str, torch.Tensor], state: StrategyState, index: SampleIndex) -> None:
    """Put weights back into the strategy's model, and what `strategy_state` found in it beside them."""
    Decoder(index, strategy.model).load_module(strategy.model, weights, state['model_extras'])


def load_strategy_state(strategy, state: StrategyState, index: SampleIndex, *, with_metrics: bool = True) -> None:
    """Put `strategy_state`'s result back into a strategy of the same config.

    Args:
        with_metrics: False leaves Avalanche's metrics as they are: several processes have none.

    Raises:
        CheckpointError: if the plugins or metrics differ from those that were saved.
    """
    index.know(_live_parts(strategy))
    present = _stateful_plugins(strategy)
    _check_same('plugins', sorted(state['plugins']), sorted(present))
    if with_metrics:
        _check_same('metrics', [short_name(metric['class']) for metric in state['metrics']],
                    [type(metric).__name__ for metric in strategy.evaluator.metrics])
    decoder = Decoder(index, strategy.model)
    saved_loss = state.get('criterion')
    # A branch may have taken another loss, which begins anew.
    if saved_loss is not None and is_saved_as(type(strategy._criterion), saved_loss['class']):
        decoder.load_module(strategy._criterion, saved_loss['state'], saved_loss['extras'])
    for name, plugin in present.items():
        decoder.into_object(plugin, state['plugins'][name])
    for name, value in state['fields'].items():
        decoder.into_field(strategy, name, value)
    if with_metrics:
        for metric, value in zip(strategy.evaluator.metrics, state['metrics']):
            decoder.into_object(metric, value)
        strategy.evaluator.last_metric_results = decoder.value(state['last_metrics'])
    decoder.load_extras(strategy.model, state['model_extras'])
    strategy.schedule.load_state_dict(state['schedule'], strategy.optimizer)
    # None would tell Avalanche to wipe the optimiser's state at the next experience.
    strategy.optimized_param_id = dict(strategy.model.named_parameters())


def _check_same(what: str, saved: list[str], present: list[str]) -> None:
    if saved != present:
        raise CheckpointError(f"The checkpoint holds the state of the {what} {', '.join(saved) or '(none)'}; this run "
                              f"has {', '.join(present) or '(none)'}. Resume with the config that wrote it.")


def settings_of(state: object) -> object:
    """`strategy_state` of a strategy that saw nothing yet as plain values: a tensor is its type and shape."""
    if isinstance(state, torch.Tensor):
        return f'{state.dtype} {list(state.shape)}'
    if isinstance(state, dict):
        return {key: settings_of(item) for key, item in state.items()}
    return [settings_of(item) for item in state] if isinstance(state, (list, tuple)) else state


def with_settings(saved: object, old: object, new: object) -> object:
    """`saved` with the settings of another config: what two strategies that saw nothing yet differ in.

    Args:
        saved: a result of `strategy_state`, or a part of it.
        old: `settings_of` the strategy as it was built then.
        new: `strategy_state` of one as it is built now.
    """
    if settings_of(new) == old:
        return saved
    if isinstance(old, dict) and isinstance(new, dict) and isinstance(saved, dict):
        return {key: with_settings(value, old.get(key), new[key]) if key in new else value
                for key, value in saved.items()}
    if isinstance(old, list) and isinstance(new, list) and isinstance(saved, list) and \
            len(old) == len(new) == len(saved):
        return [with_settings(*parts) for parts in zip(saved, old, new)]
    return new
