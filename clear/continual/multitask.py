"""Models with a head for each task: labels of tasks reach the parts that take them, and weights find their heads.

Avalanche's multi-task modules take the task of every sample beside the batch, and grow a head when a task begins. A
composed model one of whose parts is such a module becomes one itself; `call` gives any model what it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.models import DynamicModule, IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.classifier import ComposedClassifier

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.generic_scenario import CLExperience


class MultiTaskMixin:
    """Comes before `ComposedClassifier` among the bases of the live model's class (see `with_task_labels`).

    Shape:
        x: (N, ...)   task_labels: (N,), or one label for all   returns: (N, units of the widest head), or by task
        what its head says if the labels are None, which LwF asks for
    """

    # There are as many as the widest head has, and may become more.
    num_classes = None

    def forward(self, x: Tensor, *task_labels: Tensor | int | None) -> Tensor | dict[int, Tensor]:
        if not task_labels:
            raise ConfigError('The model has a head for each task and was called without task labels: this strategy, '
                              'or a plugin of it, is for models with one head.')
        self.__dict__['task_labels'], = task_labels  # past nn.Module; the parts below take them from here
        try:
            return super().forward(x)
        finally:
            del self.__dict__['task_labels']

    def _forward(self, x: Tensor) -> Tensor | dict[int, Tensor]:
        if self.task_labels is not None:
            return super()._forward(x)
        if isinstance(self.head, MultiTaskModule):  # features once, for BatchNorm's statistics too
            return {task: logits.float() for task, logits in self._classify(self.extract_features(x)).items()}
        return {task: self(x, task) for task in sorted(known_tasks(self))}

    def adaptation(self, experience: CLExperience) -> None:
        """Nothing: its parts are adapted by themselves, and know the tasks."""

    def extract_features(self, x: Tensor) -> tuple:
        for part in (self.backbone, self.neck):
            if part is not None:
                x = part(x, self.task_labels) if isinstance(part, MultiTaskModule) else part(x)
        return (x,) if isinstance(x, Tensor) else tuple(x)

    def _classify(self, feats: tuple) -> object:
        if not isinstance(self.head, MultiTaskModule):
            return super()._classify(feats)
        return self.head(feats[-1].flatten(1), self.task_labels)


def with_task_labels(model: nn.Module) -> nn.Module:
    """The same model; with a class that takes task labels, if one of its parts takes them.

    Its heads become as many and as wide as those of a state that is loaded into it.
    """
    if isinstance(model, ComposedClassifier) and any(
            isinstance(part, MultiTaskModule) for part in (model.backbone, model.neck, model.head)):
        model.__class__ = type(f'MultiTask{type(model).__name__}', (MultiTaskMixin, type(model), MultiTaskModule),
                               {'__module__': __name__})
        model._auto_adapt, model.max_class_label, model.known_train_tasks_labels = True, 0, set()
    for module in model.modules():
        # The classifiers inside a multi-head one grow with it.
        if isinstance(module, MultiHeadClassifier) or isinstance(module, IncrementalClassifier) and module._auto_adapt:
            module.register_load_state_dict_pre_hook(_fit_to_state)
    return model


def takes_tasks(model: nn.Module) -> bool:
    """Whether the model is given the task of every sample."""
    return isinstance(model, MultiTaskModule)


def known_tasks(model: nn.Module) -> set[int]:
    """The tasks that a multi-task model was trained on."""
    return set().union(*(module.known_train_tasks_labels for module in model.modules()
                         if isinstance(module, MultiTaskModule)))


def grows(model: nn.Module) -> bool:
    """Whether the model gets outputs when classes or tasks begin."""
    return any(isinstance(module, DynamicModule) for module in model.modules())


def call(model: nn.Module, inputs: Tensor, task: int | None) -> Tensor:
    """The logits of a batch of one task; None where the model is not told."""
    return model(inputs) if task is None else model(inputs, task)


def _fit_to_state(module: MultiHeadClassifier | IncrementalClassifier, state: dict[str, Tensor], prefix: str,
                  *_: object) -> None:
    """Before a state is loaded: give a classifier the heads and units that it holds."""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if isinstance(module, IncrementalClassifier):
        if 'classifier.weight' in own:
            _widen(module, own['classifier.weight'], own.get('active_units'))
        return
    heads = {name.split('.')[1]: value for name, value in own.items()
             if name.startswith('classifiers.') and name.endswith('.classifier.weight')}
    if not heads:
        return
    device = module._adaptation_device
    for task in set(module.classifiers) - set(heads):  # a teacher is a copy of the live model, with fewer tasks
        del module.classifiers[task]
        del module._buffers[f'active_units_T{task}']
    for task, weight in heads.items():
        if task not in module.classifiers:
            module.classifiers[task] = IncrementalClassifier(module.in_features, module.starting_out_features,
                                                             masking=False, auto_adapt=False).to(device)
        _widen(module.classifiers[task], weight, own.get(f'classifiers.{task}.active_units'))
        mask = own.get(f'active_units_T{task}')
        if mask is not None:
            module.register_buffer(f'active_units_T{task}', torch.zeros_like(mask, device=device))
    module.max_class_label = max(len(weight) for weight in heads.values())
    module.known_train_tasks_labels = {int(task) for task in heads if not module.masking
                                       or own[f'active_units_T{task}'].any()}


def _widen(head: IncrementalClassifier, weight: Tensor, mask: Tensor | None) -> None:
    if head.classifier.weight.shape != weight.shape:
        head.classifier = nn.Linear(weight.shape[1], weight.shape[0]).to(head.classifier.weight.device)
    if mask is not None and mask.shape != head.active_units.shape:
        head.active_units = torch.zeros_like(mask, device=head.active_units.device)
