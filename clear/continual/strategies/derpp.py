"""Dark experience replay ++: a memory of samples with the logits that the model gave them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from avalanche.benchmarks.utils import make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.models import avalanche_forward
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from clear.continual.buffers import ReservoirSamplingBuffer, check_buffer_size
from clear.continual.training.loaders import IndexLoader, endless_batches
from clear.core.checks import check_number
from clear.core.modes import evaluation_mode
from clear.registry import STRATEGIES


@STRATEGIES.register_module()
class DERpp(SupervisedTemplate):
    """Loss on the batch + alpha * MSE to remembered logits + beta * loss on remembered labels, the two terms on two
    independent batches of the memory (Buzzega et al. 2020, arXiv:2004.07211, equation 6).

    The memory is a reservoir over the stream. Departures from the paper: it is fed when an experience ends, with the
    logits of the model of that moment in evaluation mode, where the paper feeds it in every iteration. So the memory is
    a list of sample ids and logits, which every process holds alike and a checkpoint can hold without images.

    Args:
        mem_size: samples in memory.
        alpha, beta: weights of the two terms, >= 0.
        batch_size_mem: samples in each of the two memory batches; as many as new ones by default.

    Raises:
        ConfigError: if a weight is negative.
    """

    lane_objective = 'dark-experience'
    unmixed_batches = 'every'

    def __init__(self, *, mem_size: int = 200, alpha: float = 0.1, beta: float = 0.5,
                 batch_size_mem: int | None = None, **kwargs):
        check_number('alpha', alpha, 0)
        check_number('beta', beta, 0)
        super().__init__(**kwargs)
        self.alpha = alpha
        self.beta = beta
        self.batch_size_mem = self.train_mb_size if batch_size_mem is None else batch_size_mem
        self.memory = ReservoirSamplingBuffer(mem_size)
        self.logit_batches = None
        self.label_batches = None
        check_buffer_size(self.memory, getattr(self.model, 'num_classes', None), 'the memory')

    def _before_training_exp(self, **kwargs):
        if len(self.memory.buffer):
            workers = kwargs.get('num_workers', 0)
            self.logit_batches, self.label_batches = (endless_batches(self.memory.buffer, self.batch_size_mem, workers)
                                                      for _ in range(2))
        super()._before_training_exp(**kwargs)

    def _before_backward(self, **kwargs):
        if self.logit_batches is not None:
            self.loss = self.loss + self.memory_loss(next(self.logit_batches), next(self.label_batches))
        super()._before_backward(**kwargs)

    def memory_loss(self, logit_batch: list[Tensor], label_batch: list[Tensor]) -> Tensor:
        """alpha * MSE on one memory batch + beta * criterion on the other; a batch: inputs, labels, tasks, logits."""
        inputs, _, tasks, logits = self._on_device(logit_batch)
        now = avalanche_forward(self.model, inputs, tasks)
        # A head that has grown since has more logits; only the remembered ones are held.
        distillation = F.mse_loss(now[:, :logits.shape[1]], logits)
        inputs, targets, tasks, _ = self._on_device(label_batch)
        replayed = self._criterion(avalanche_forward(self.model, inputs, tasks), targets)
        return self.alpha * distillation + self.beta * replayed

    def _on_device(self, batch: list[Tensor]) -> list[Tensor]:
        return [column.to(self.device) for column in batch]

    def _after_training_exp(self, **kwargs):
        self.logit_batches = self.label_batches = None
        self.memory.update_from_dataset(self.with_logits(self.experience.dataset, kwargs.get('num_workers', 0)))
        super()._after_training_exp(**kwargs)

    def with_logits(self, dataset, num_workers: int = 0):
        """`dataset` with the model's logits as one more column of each sample."""
        rows = []
        with evaluation_mode(self.model):
            loader = IndexLoader([dataset.eval()], [self.eval_mb_size], shuffle=False, num_workers=num_workers)
            for inputs, _, *others in loader:
                logits = avalanche_forward(self.model, inputs.to(self.device), others[-1].to(self.device))
                rows.append(logits.float().cpu())
        data = FlatData([torch.cat(rows)])  # a memory copies the rows that it keeps
        return make_avalanche_dataset(dataset, data_attributes=[DataAttribute(data, 'logits', use_in_getitem=True)])
