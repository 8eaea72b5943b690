"""Learning without forgetting by its paper, on Avalanche 0.6's plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche.models import MultiTaskModule
from avalanche.training.plugins import LwFPlugin as AvalancheLwFPlugin
from avalanche.training.supervised import LwF as AvalancheLwF

from clear.continual.repairs.regularisation.regularisers import check_strength, replace_plugin
from clear.core.checks import check_number
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.registry import PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from clear.core.types import Options


@PLUGINS.register_module()
class LwFPlugin(AvalancheLwFPlugin):
    """Learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282): hold on to the outputs of the old model.

    The loss gets alpha * KL(p~ || p), the mean over the batch, where p~ and p are the softmax at a temperature T of the
    old and the new logits of all classes seen before. Departure from the paper's equation 2: no factor T^2.

    Avalanche 0.6 looks the classes up by task label 0, while experiences with a single head have labels of their own
    (0, 1, 2 ...): only classes of the first experience are held. It also leaves the old model in train mode: its
    dropout draws, its BatchNorm normalises by the current batch and its running statistics move, so that the teacher
    is not the model that was. Here all classes count and the teacher is in eval mode.

    Args:
        alpha: weight of the penalty, one number or one for each experience.
        temperature: of the softmax.
        legacy: the old model in train mode.
    """

    unmixed_batches = 'every'
    penalty_keys = ('alpha',)
    method_version = 2
    method_remedy = ''

    def __init__(self, alpha: float | list[float] = 1, temperature: float = 2, *, legacy: bool = False):
        check_strength('alpha', alpha)
        check_number('temperature', temperature, above=0)
        super().__init__(alpha, temperature)
        self.legacy = legacy

    def before_backward(self, strategy, **kwargs):
        if not self.legacy and self.lwf.prev_model is not None:
            self.lwf.prev_model.eval()
        super().before_backward(strategy, **kwargs)

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        classes = self.lwf.prev_classes_by_task
        if not isinstance(strategy.model, MultiTaskModule):
            classes[0] = set().union(*classes.values())


@STRATEGIES.register_module()
class LwF(AvalancheLwF):
    """Avalanche's strategy with the repaired plugin.

    Args:
        alpha, temperature: the plugin's.
        legacy: the old model in train mode.
    """

    division = 'shard'
    lane_objective = 'distillation'
    unmixed_batches = 'every'

    @classmethod
    def check_stream(cls, options: Options, num_buckets: int) -> None:
        alpha = options.get('alpha')
        if not isinstance(alpha, (list, tuple)):
            return
        if len(alpha) < num_buckets:
            raise ConfigError(f'cl_strategy.alpha of LwF has {len(alpha)} values for {num_buckets} experiences; give '
                              'one each.')
        if len(alpha) > num_buckets:
            unused = len(alpha) - num_buckets
            logger.warning('cl_strategy.alpha has %d values for %d experiences; the last %s not used.', len(alpha),
                           num_buckets, f'{unused} are' if unused > 1 else 'one is')

    def __init__(self, *, alpha: float | list[float], temperature: float, legacy: bool = False, **kwargs):
        super().__init__(alpha=alpha, temperature=temperature, **kwargs)
        replace_plugin(self, AvalancheLwFPlugin, lambda _: LwFPlugin(alpha, temperature, legacy=legacy))
