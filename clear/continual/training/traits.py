"""What a strategy, plugin, memory or metric says of itself, and what Avalanche's unmodified classes would say."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import nn

if TYPE_CHECKING:
    from clear.continual.training.mixin import EngineMixin
    from clear.core.types import Options


Declared: TypeAlias = bool | int | str | tuple[str, ...] | None


class Traits:
    """What a class may declare, with what holds where it says nothing. The last base of every strategy that is built.

    Attributes:
        division: of a strategy, how several processes may divide its training, see `parallel`. It counts for the class
            that declares it alone: a subclass may look at its batches in another way.
        lane_objective: of a strategy, how its loss is made where several learners train in one lane, a name of
            `clear.continual.lane.objectives`; None where it has no place there. It counts for the class that declares
            it alone.
        own_loss: of a strategy, True where a loss of its own defines it, so that `cl_strategy.loss` is refused; the
            name of the loss it takes where the config has none; False for cross-entropy.
        needs_optimizer: of a strategy, whether it learns by gradients; closed-form learners do not.
        embeds_in_training: of a strategy, whether the model gives embeddings and no logits while it trains, so that
            there is no training accuracy.
        one_head: of a strategy or plugin, whether it is only for models whose samples all go to one head, and not for
            those with a head for each task.
        is_classifier: of a strategy, whether there is an accuracy to measure.
        is_joint: of a strategy, whether it is given all experiences at once.
        is_cumulative: of a strategy, whether it trains on all buckets seen so far and divides each batch over them.
        penalty_keys: of a strategy or plugin, the keys that weigh what it adds to the loss from the second experience
            on; named where training diverges.
        unmixed_batches: of a strategy or plugin, in which experiences the model trains on batches of `train_mb_size` of
            the experience's samples with nothing beside them: in 'every' one, or in the 'first' (from then on memories
            join them, or BatchNorm is frozen); a plugin that changes no batch says 'every'. None where batches are made
            in another way: whether the model can train on the smallest is then not tried before.
        method_version: of a strategy, plugin or memory, which form of its method it computes. A class whose default
            changed has 2, an instance that computes the earlier form 1. Checkpoints of another form are refused, see
            `versions`.
        method_remedy: what to do to go on with the earlier form, e.g. 'cl_strategy.legacy=True brings it back'; empty
            if nothing does.
        rebuilt: of any class, the attributes that a constructor or the next experience makes anew, so that no
            checkpoint needs them. Those of the bases are added.
        is_saved_elsewhere: of a plugin, whether something else saves it.
        built_in: of a plugin that the template of every strategy makes, what a config says in place of a second one.
        eval_classifier: of a plugin, the classifier that it brings and fills, with which evaluation answers: 'ncm' or
            'fecam'. Its arguments are the plugin's key `classifier`.
    """

    division: Literal['shard', 'gather', 'replicate'] = 'replicate'
    lane_objective: str | None = None
    own_loss: bool | str = False
    needs_optimizer: bool = True
    embeds_in_training: bool = False
    one_head: bool = False
    is_classifier: bool = True
    is_joint: bool = False
    is_cumulative: bool = False
    penalty_keys: tuple[str, ...] = ()
    unmixed_batches: Literal['every', 'first'] | None = None
    method_version: int = 1
    method_remedy: str = ''
    rebuilt: Collection[str] = ()
    is_saved_elsewhere: bool = False
    built_in: str = ''
    eval_classifier: Literal['ncm', 'fecam'] | None = None

    @classmethod
    def check_stream(cls, options: Options, num_buckets: int) -> None:
        """Refuse `cl_strategy` for a stream of so many buckets, before anything is trained, with a ConfigError."""

    @classmethod
    def samples_at_most(cls, options: Options) -> int | None:
        """How many samples an experience trains on at most, e.g. a memory's size; None if there is no limit."""
        return None

    @staticmethod
    def prepare_model(model: nn.Module, **options: object) -> nn.Module:
        """The model that the strategy trains, made of the config's; `options` are `device` and `cl_strategy`'s keys."""
        return model


# Whose classes are tested here.
_OURS = {'clear', 'avalanche', 'torch', 'builtins', 'abc', 'typing'}
# A subclass may look at its batches, or make its loss, in another way.
NOT_INHERITED = ('division', 'lane_objective')
# The only table of names of strategies: these classes are Avalanche's, unmodified. What is registered under a name
# of these is asked itself.
AVALANCHE: dict[str, dict[str, Declared]] = {
    'Naive': dict(division='shard', unmixed_batches='every', lane_objective='cross-entropy'),
    'Cumulative': dict(division='shard', unmixed_batches='first', is_cumulative=True, lane_objective='cross-entropy'),
    'FromScratchTraining': dict(division='shard', unmixed_batches='every'),
    'JointTraining': dict(division='shard', is_joint=True, is_cumulative=True),  # a batch has samples of every bucket
    # Plugins, memories and metrics.
    'AGEMPlugin': dict(rebuilt=('buffer_dataloader', 'reference_gradients')),
    'CPUUsage': dict(rebuilt=('_process_handle', '_first_update')),
    'CWRStarPlugin': dict(rebuilt=('log',)),
    'CurrentDataFeCAMUpdate': dict(eval_classifier='fecam'),
    'CurrentDataNCMUpdate': dict(eval_classifier='ncm'),
    'EvaluationPlugin': dict(built_in='use loggers and metrics'),
    'LRSchedulerPlugin': dict(built_in='use cl_strategy.scheduler'),
    'LabelsRepartitionPlugin': dict(rebuilt=('image_creator', 'strategy')),
    'MaxGPU': dict(rebuilt=('thread',)),
    'MaxRAM': dict(rebuilt=('_process_handle', 'thread')),
    'MeanScoresEvalPluginMetric': dict(rebuilt=('image_creator',)),
    'MeanScoresTrainPluginMetric': dict(rebuilt=('image_creator',)),
    'NCMOracle': dict(eval_classifier='ncm'),
    'PeriodicEval': dict(is_saved_elsewhere=True),
    'StreamConfusionMatrix': dict(rebuilt=('_image_creator',)),
    'SynapticIntelligencePlugin': dict(rebuilt=('_device',)),
    '_ParametricSingleBuffer': dict(rebuilt=('selection_strategy',)),
}


def trait(part: object, name: str) -> Any:
    """What a class or instance declares as `name`, one of the attributes of `Traits`; else the default."""
    cls = part if isinstance(part, type) else type(part)
    if name in NOT_INHERITED:
        return vars(cls).get(name, _of_avalanche(cls).get(name, getattr(Traits, name)))
    return getattr(part, name, _of_avalanche(cls).get(name, getattr(Traits, name)))


def is_of_users(part: object) -> bool:
    """Whether a class of another package is among those of a strategy or plugin."""
    return any(cls.__module__.split('.')[0] not in _OURS for cls in type(part).__mro__)


def users_parts(strategy: EngineMixin) -> set[str]:
    """The names of the plugins of users, as a state has them, and 'fields' for a strategy of theirs."""
    return {f'{position}:{type(plugin).__name__}' for position, plugin in enumerate(strategy.plugins)
            if is_of_users(plugin)} | ({'fields'} if is_of_users(strategy) else set())


def rebuilt_fields(cls: type) -> set[str]:
    """The attributes of a class that no checkpoint holds: what it and its bases declare as `rebuilt`."""
    return {field for base in cls.__mro__
            for field in (*vars(base).get('rebuilt', ()), *_of_avalanche(base).get('rebuilt', ()))}


def with_traits(mixin: type, base: type) -> type:
    """A strategy class under the mix-in, which can be asked for every trait as an attribute."""
    declared = {**_of_avalanche(base), **{name: trait(base, name) for name in NOT_INHERITED}}
    return type(base.__name__, (mixin, base, Traits), declared)


def _of_avalanche(cls: type) -> dict[str, Declared]:
    return AVALANCHE.get(cls.__name__, {}) if cls.__module__.startswith('avalanche.') else {}
