"""Early stopping that can watch what every run computes, and says so when there is nothing to watch."""

from __future__ import annotations

import operator

from avalanche.training.plugins import EarlyStoppingPlugin as AvalancheEarlyStoppingPlugin

from clear.core.errors import ConfigError
from clear.registry import PLUGINS

# Attributes of the strategy: averages over the samples of the last epoch.
WATCHED = ('epoch_loss', 'epoch_accuracy')


@PLUGINS.register_module()
class EarlyStoppingPlugin(AvalancheEarlyStoppingPlugin):
    """Stop an experience after `patience` epochs without an improvement, and take back the best weights.

    Avalanche 0.6 never stops, and warns at most, where its metric is not computed. Here that is an error, and the
    training loss or accuracy of the epoch can be watched, which need no metric. (They are training figures: a model
    that is chosen by them is not chosen by its generalisation.)

    Args:
        patience: epochs or iterations without an improvement.
        metric_name: 'epoch_loss', 'epoch_accuracy', or the name of an Avalanche metric that the config computes.
        val_stream_name: of the stream of an Avalanche metric.
        mode: 'max' or 'min'; by default what fits the two of ours.
        peval_mode, margin, verbose: as in Avalanche; the two of ours are for 'epoch'.
    """

    unmixed_batches = 'every'

    def __init__(self, patience: int, val_stream_name: str = 'test_stream', metric_name: str = 'epoch_loss',
                 mode: str | None = None, peval_mode: str = 'epoch', margin: float = 0.0, verbose: bool = False):
        if metric_name in WATCHED and peval_mode != 'epoch':
            raise ValueError(f"{metric_name} is known after an epoch; use peval_mode='epoch'.")
        mode = mode or ('min' if metric_name == 'epoch_loss' else 'max')
        self.mode = mode
        super().__init__(patience, val_stream_name, metric_name, mode, peval_mode, float(margin), verbose)

    @property
    def operator(self):
        return operator.gt if self.mode == 'max' else operator.lt

    @operator.setter
    def operator(self, _function) -> None:
        """Avalanche keeps a function, which no checkpoint holds."""

    def _update_best(self, strategy):
        step = self._get_strategy_counter(strategy)
        if step == 0:
            return None
        if self.metric_name not in WATCHED:
            names = strategy.evaluator.get_last_metrics()
            if not any(name.startswith(self.metric_key) for name in names):
                raise ConfigError(f"EarlyStoppingPlugin watches '{self.metric_key}', which this run does not compute. "
                                  f'Computed: {sorted(names)[:5] or "nothing"}. Use metric_name=\'epoch_loss\'.')
            return super()._update_best(strategy)
        value = getattr(strategy, self.metric_name)
        if self.best_val is None or (self.operator(value, self.best_val)
                                     and abs(value - self.best_val) >= self.margin):
            self.best_state = {name: tensor.detach().clone() for name, tensor in strategy.model.state_dict().items()}
            self.best_val, self.best_step = value, step
        return self.best_val
