"""Whether a checkpoint is of this run, or of its stream at least, and putting it back into what a run has built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.training.versions import check_versions, without_remedies
from clear.core import dist
from clear.core.config import is_hash_of, to_plain
from clear.core.errors import CheckpointError
from clear.core.storage.damage import check_rng, check_shape
from clear.engine.checkpoint import ContinualCheckpoint, load_optimizer
from clear.engine.origin import check_origin, world_size_of
from clear.engine.schema import computed_config, differences

if TYPE_CHECKING:
    from clear.continual.training.mixin import EngineMixin
    from clear.engine.continual.runner import ContinualRunner

# What other processes than those that wrote a checkpoint leave behind.
METRICS_LEFT = ". The state of Avalanche's metrics is not taken over."


def check_run(runner: ContinualRunner, path: Path, checkpoint: ContinualCheckpoint) -> None:
    """Refuse a checkpoint of another strategy, other data, another config or another form of the method.

    Raises:
        CheckpointError: naming what differs.
    """
    check_stream(runner, path, checkpoint)
    config = computed_config(runner.cfg)
    saved = checkpoint['config']
    asked = without_remedies(to_plain(runner.cfg), saved, runner.strategy)
    # The hash leaves the seed out, so that repeats share one; a run cannot change it on the way.
    if not is_hash_of(checkpoint['config_hash'], asked) or saved['seed'] != config['seed']:
        changed = differences(saved, config) or ['config_hash']
        raise CheckpointError(f'{path} was written with another config: {"; ".join(changed)}. Resume with the same '
                              'config, start a new run, or begin one there with --branch.')
    check_versions(path, checkpoint['progress'].get('methods', {}), runner.strategy)


def check_stream(runner: ContinualRunner, path: Path, checkpoint: ContinualCheckpoint) -> None:
    """Refuse a checkpoint of another strategy or other data, and one that is damaged.

    Raises:
        CheckpointError: naming both strategies, or what is damaged.
    """
    name = runner.cfg['cl_strategy']['type']
    check_origin(path, checkpoint, key='strategy', method=name, fingerprint=runner.info.fingerprint,
                 differs='other files, another split or order',
                 otherwise=f"this config asks for {name}. To start {name} from its weights use load_from='{path}'.")
    check_rng(path, checkpoint['rng'])
    runner.record.check(path, checkpoint)
    _check_fields(path, checkpoint)


def _check_fields(path: Path, checkpoint: ContinualCheckpoint) -> None:
    """Everything that the strategy held at first must have been saved."""
    settings, strategy = checkpoint.get('settings'), checkpoint['strategy']
    if settings is None:
        return
    check_shape(path, strategy['plugins'], {
        name: dict(fields=dict.fromkeys(plugin['fields'], object)) for name, plugin in settings['plugins'].items()},
        'strategy.plugins')
    check_shape(path, strategy['fields'], dict.fromkeys(settings['fields'], object), 'strategy.fields')


def adapt_model(runner: ContinualRunner, finished: int) -> None:
    """Let a model that grows with its experiences grow to what was saved."""
    from avalanche.models import DynamicModule
    from avalanche.models.utils import avalanche_model_adaptation

    strategy = runner.strategy
    if any(isinstance(module, DynamicModule) for module in strategy.model.modules()):
        for experience in runner.experiences[:finished]:
            avalanche_model_adaptation(strategy.model, experience)
        strategy.make_optimizer(reset_optimizer_state=True)


def restore(runner: ContinualRunner, path: Path, checkpoint: ContinualCheckpoint) -> None:
    """Fill strategy, model and optimiser with what a checkpoint holds; the generators are left as they are."""
    from clear.continual.state import load_model_state, load_strategy_state
    from clear.continual.strategies import quiet_avalanche

    strategy, index = runner.strategy, runner.sample_index()
    with quiet_avalanche():
        load_model_state(strategy, checkpoint['state_dict'], checkpoint['strategy'], index)
        load_strategy_state(strategy, {**checkpoint['strategy'], 'schedule': checkpoint['scheduler']}, index,
                            with_metrics=world_size_of(checkpoint) == dist.world_size())
    _optimize(strategy, checkpoint.get('optimizer_parameters'))
    if checkpoint['optimizer'] is not None:
        load_optimizer(path, strategy.optimizer, checkpoint['optimizer'], [strategy.optimizer])
    frozen = checkpoint['progress'].get('frozen')
    for name, parameter in strategy.model.named_parameters() if frozen is not None else ():
        parameter.requires_grad_(name not in frozen)


def _optimize(strategy: EngineMixin, names: list[list[str]] | None) -> None:
    """Let the optimiser hold the parameters of those names: a model may have grown since it was built."""
    parameters = dict(strategy.model.named_parameters())
    for group, own in zip(strategy.optimizer.param_groups, names, strict=True) if names is not None else ():
        group['params'] = [parameters[name] for name in own]
