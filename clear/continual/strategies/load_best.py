"""Go back to the best epoch of an experience before anything is remembered of it."""

from __future__ import annotations

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward

from clear.continual.buffers.balanced import rows_by_class
from clear.continual.training.loaders import IndexLoader
from clear.core.checks import check_choice, check_number
from clear.core.errors import ConfigError, DataError
from clear.core.modes import evaluation_mode
from clear.registry import PLUGINS

METRICS = ('accuracy', 'loss')
SPLITS = ('val', 'train')


@PLUGINS.register_module()
class LoadBest(SupervisedPlugin, supports_distributed=True):
    """Keeps the weights of the epoch with the best metric and restores them when the last epoch ends.

    The restored weights are those that the strategy then computes importances, teachers and memories from. Equal values
    go to the earlier epoch.

    Args:
        metric: 'accuracy' (higher is better) or 'loss' (lower is better).
        split: 'val' measures on samples held out from training; 'train' on the epoch's own training batches, which
            nearly always chooses a late epoch.
        val_ratio: share of each class of the training data that is held out, at least one sample; drawn anew for each
            experience from the engine's random numbers. Held-out images pass the training transform.
        legacy: the form of the earlier demo: training accuracy, read one epoch late (the weights of epoch e are judged
            by the accuracy of epoch e - 1), and restored only after the strategy has computed importances, teachers
            and memories from the last epoch's weights. `metric` and `split` are not used.

    Raises:
        ConfigError: for unknown values, or with a strategy that trains on other data than the experience's (GDumb).
        DataError: if no class has a sample to spare.
    """

    def __init__(self, metric: str = 'accuracy', split: str = 'val', val_ratio: float = 0.1, legacy: bool = False):
        super().__init__()
        for name, value, known in (('metric', metric, METRICS), ('split', split, SPLITS)):
            check_choice(name, value, known)
        check_number('val_ratio', val_ratio, above=0, below=1)
        self.metric = metric
        self.split = split
        self.val_ratio = val_ratio
        self.legacy = legacy
        self.validation = None
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.best_state: dict[str, torch.Tensor] | None = None
        self.previous: float | None = None
        self._reduced = None

    @property
    def unmixed_batches(self) -> str | None:
        return 'every' if self.split == 'train' or self.legacy else None  # samples are held out

    def after_train_dataset_adaptation(self, strategy, **kwargs):
        """Hold samples out of what the strategy is about to train on."""
        if self.split == 'val' and not self.legacy:
            dataset = strategy.adapted_dataset
            held_out = stratified_rows(dataset.targets, self.val_ratio)
            chosen = set(held_out)
            self.validation = dataset.subset(held_out)
            self._reduced = dataset.subset([row for row in range(len(dataset)) if row not in chosen])
            strategy.adapted_dataset = self._reduced

    def before_training_exp(self, strategy, **kwargs):
        if self._reduced is not None and strategy.adapted_dataset is not self._reduced:
            raise ConfigError(f"LoadBest: {type(strategy).__name__} trains on data of its own, so nothing can be held "
                              "out of them. Use split='train'.")
        self._reduced = None
        self.best_value = self.best_epoch = self.best_state = self.previous = None

    def after_training_epoch(self, strategy, **kwargs):
        epoch = strategy.clock.train_exp_epochs
        if self.legacy:
            self._offer(self.previous, epoch, strategy)
            self.previous = self._training_value(strategy, 'accuracy')
            return
        value = (self._validation_value(strategy) if self.split == 'val' else
                 self._training_value(strategy, self.metric))
        self._offer(value, epoch, strategy)
        # Here, and not in after_training_exp, which some strategies reach after they have remembered their samples.
        if epoch + 1 == strategy.train_epochs:
            self._restore(strategy)

    def after_training_exp(self, strategy, **kwargs):
        """Restore where training ended before its last epoch."""
        if not self.legacy:
            self._restore(strategy)

    def after_training(self, strategy, **kwargs):
        if self.legacy:
            self._restore(strategy)

    def _offer(self, value: float | None, epoch: int, strategy) -> None:
        """Keep the present weights if `value` is the best so far."""
        if value is None:
            return
        is_higher_better = self.legacy or self.metric == 'accuracy'
        if self.best_value is None or (value > self.best_value if is_higher_better else value < self.best_value):
            self.best_value, self.best_epoch = value, epoch
            self.best_state = {name: item.detach().clone() for name, item in strategy.model.state_dict().items()}

    def _restore(self, strategy) -> None:
        if self.best_state is not None:
            strategy.model.load_state_dict(self.best_state)
            self.best_state = None

    def _training_value(self, strategy, metric: str) -> float:
        value = getattr(strategy, f'epoch_{metric}', None)
        if value is None:
            raise ConfigError("LoadBest: split='train' reads the epoch's accuracy and loss, which the engine counts; "
                              'this strategy runs without it.')
        return value

    def _validation_value(self, strategy) -> float:
        loss = correct = 0.0
        with evaluation_mode(strategy.model):
            loader = IndexLoader([self.validation], [strategy.eval_mb_size], shuffle=False)
            for inputs, targets, *others in loader:
                inputs, targets = inputs.to(strategy.device), targets.to(strategy.device)
                logits = avalanche_forward(strategy.model, inputs, others[-1].to(strategy.device))
                loss += float(strategy._criterion(logits, targets)) * len(targets)
                correct += int((logits.argmax(1) == targets).sum())
        return (correct if self.metric == 'accuracy' else loss) / len(self.validation)


def stratified_rows(targets, ratio: float) -> list[int]:
    """Random rows, `ratio` of each class, rounded, at least one; none of a class with a single sample.

    Raises:
        DataError: if every class has a single sample.
    """
    chosen = []
    for _, rows in sorted(rows_by_class(targets).items()):
        count = min(max(1, round(ratio * len(rows))), len(rows) - 1)
        chosen += [rows[position] for position in torch.randperm(len(rows))[:count].tolist()]
    if not chosen:
        raise DataError("LoadBest: no class has two samples, so none can be held out. Use split='train'.")
    return sorted(chosen)
