"""What each strategy of a lane minimises, with the gradient written out, for all of its learners at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from clear.continual.lane.stack import Stack
from clear.continual.repairs.regularisation.lwf import LwFPlugin
from clear.continual.samples import attribute_values
from clear.models.heads.linear_gradient import softmax_errors

if TYPE_CHECKING:
    from avalanche.training.plugins import EWCPlugin

    from clear.continual.training.loaders import BatchIterator
    from clear.continual.training.mixin import EngineMixin

Setting = float | Tensor


class Objective:
    """Cross-entropy on the batch: of Naive, Cumulative and Replay, which differ in their batches alone.

    Args:
        stack: the learners.
        members: the strategy at each of its places, where an experience has begun.
    """

    # Keys of `cl_strategy` that may differ between learners.
    DIFFERS: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, stack: Stack, members: Sequence[EngineMixin]):
        self.stack = stack
        self.members = members

    def memories(self, strategy: EngineMixin) -> list[BatchIterator]:
        """What is to be read beside each batch of a strategy's own, in the order of its draws."""
        return []

    def errors(self, logits: Tensor, targets: Tensor, places: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of the mean loss by the logits, which are overwritten.

        Args:
            places: the rows of `memories` in the batch.

        Shape:
            logits: (S, C, N), of the batch's own rows, then those of each memory   targets: (S, N) or (N,)
            places: (S, M) or (M,) each
            returns: gradient (S, C, N), loss (S,), right answers on the batch's own rows (S,)
        """
        loss, hits = _loss_and_hits(logits, targets)
        return softmax_errors(logits, targets), loss, hits

    def penalise(self) -> Setting:
        """Add the gradient of what depends on the weights alone; its value, (S,)."""
        return 0.0

    def _per_learner(self, value: Callable[[EngineMixin], float], dims: int) -> Setting:
        """A setting of each learner: a number where it is the same for all, else a tensor of `dims` dimensions."""
        values = [value(member) for member in self.members]
        if all(one == values[0] for one in values):
            return values[0]
        return self.stack.parameters[0].new_tensor(values).view(-1, *(1,) * (dims - 1))


class EWCObjective(Objective):
    """Cross-entropy + lambda * sum_k F_k (theta - theta_k)^2.

    The sum over earlier experiences k is A (theta - m)^2 + c with A = sum F_k and m = sum F_k theta_k / A, so that a
    step costs the same however many there were; c is (sum F_k (theta_k - m)^2).
    """

    DIFFERS = frozenset({'ewc_lambda'})

    def __init__(self, stack: Stack, members: Sequence[EngineMixin]):
        super().__init__(stack, members)
        plugins = [_plugin(member, 'ewc_lambda') for member in members]
        self.weight = self._per_learner(lambda member: _plugin(member, 'ewc_lambda').ewc_lambda, 3)
        self.is_held = members[0].clock.train_exp_counter > 0
        if self.is_held:
            self._fold(plugins, members)

    def _fold(self, plugins: Sequence[EWCPlugin], members: Sequence[EngineMixin]) -> None:
        self.importances = [torch.empty_like(parameter) for parameter in self.stack.parameters]
        self.centres = [torch.empty_like(parameter) for parameter in self.stack.parameters]
        rest = []
        for place, (plugin, member) in enumerate(zip(plugins, members)):
            count = member.clock.train_exp_counter
            held = range(count) if plugin.mode == 'separate' else range(count - 1, count)
            rest.append(0.0)
            for position, (name, _) in enumerate(member.model.named_parameters()):
                fisher = torch.stack([plugin.importances[k][name].data for k in held]).double()
                old = torch.stack([plugin.saved_params[k][name].data for k in held]).double()
                total = fisher.sum(0)
                centre = torch.where(total > 0, (fisher * old).sum(0) / total, old[-1])
                rest[-1] += float((fisher * (old - centre).square()).sum())
                for values, value in ((self.importances, total), (self.centres, centre)):
                    values[position][place].copy_(value.view_as(values[position][place]))
        self.rest = self.stack.parameters[0].new_tensor(rest)

    def penalise(self) -> Setting:
        if not self.is_held:
            return 0.0
        value = self.rest.clone()
        weight = self.weight
        for parameter, gradient, importance, centre in zip(self.stack.parameters, self.stack.gradients,
                                                           self.importances, self.centres):
            apart = parameter - centre
            pull = apart * importance
            value += torch.linalg.vecdot(pull.flatten(1), apart.flatten(1))
            if isinstance(weight, Tensor):
                gradient.addcmul_(pull, weight, value=2)
            else:
                gradient.add_(pull, alpha=2 * weight)
        return value * (weight.flatten() if isinstance(weight, Tensor) else weight)


class LwFObjective(Objective):
    """Cross-entropy + alpha * KL(p_old || p) at a temperature, on the classes seen before."""

    DIFFERS = frozenset({'alpha', 'temperature'})

    def __init__(self, stack: Stack, members: Sequence[EngineMixin]):
        super().__init__(stack, members)
        rules = [_plugin(member, 'lwf').lwf for member in members]
        self.is_held = rules[0].prev_model is not None
        if not self.is_held:
            return
        self.alpha = self._per_learner(lambda member: _alpha(_plugin(member, 'lwf')), 3)
        self.temperature = self._per_learner(lambda member: _plugin(member, 'lwf').lwf.temperature, 3)
        self.teachers = Stack(members[0].model, stack.width)
        self.teachers.load([rule.prev_model for rule in rules])
        classes = sorted(rules[0].prev_classes_by_task[0])
        num_classes = stack.layers[-1].bias.shape[1]
        self.classes = None if len(classes) == num_classes else torch.tensor(classes)

    def errors(self, logits: Tensor, targets: Tensor, places: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        if not self.is_held:
            return super().errors(logits, targets, places)
        old = self._held(self.teachers.forward(self.stack.inputs)).div_(self.temperature)
        new = self._held(logits).div(self.temperature)
        gradient, loss, hits = super().errors(logits, targets, places)
        old_logs, new_logs = old.log_softmax(1), new.log_softmax(1)
        old = old_logs.exp()
        size = logits.shape[2]
        apart = (old * (old_logs - new_logs)).sum((1, 2)).div_(size)
        pull = new_logs.exp_().sub_(old).mul_(self.alpha / self.temperature / size)
        if self.classes is None:
            gradient.add_(pull)
        else:
            gradient.index_add_(1, self.classes, pull)
        alpha = self.alpha.flatten() if isinstance(self.alpha, Tensor) else self.alpha
        return gradient, loss + alpha * apart, hits

    def _held(self, logits: Tensor) -> Tensor:
        return logits if self.classes is None else logits.index_select(1, self.classes)


class DERppObjective(Objective):
    """Cross-entropy + alpha * MSE to remembered logits + beta * cross-entropy on other memories."""

    DIFFERS = frozenset({'alpha', 'beta'})

    def __init__(self, stack: Stack, members: Sequence[EngineMixin]):
        super().__init__(stack, members)
        self.alpha, self.beta = (self._per_learner(lambda member, name=name: getattr(member, name), 3)
                                 for name in ('alpha', 'beta'))
        if members[0].logit_batches is not None:
            # (S, M, C)
            self.logits = torch.stack([attribute_values(member.memory.buffer._data_attributes['logits'])
                                       for member in members]).to(stack.parameters[0].dtype)
            self._starts = torch.arange(stack.width)[:, None] * self.logits.shape[1]
        self._shares: dict[int, Tensor] = {}

    def memories(self, strategy: EngineMixin) -> list[BatchIterator]:
        return [] if strategy.logit_batches is None else [strategy.logit_batches, strategy.label_batches]

    def errors(self, logits: Tensor, targets: Tensor, places: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        if not places:
            return super().errors(logits, targets, places)
        size = places[0].shape[-1]
        own = logits.shape[2] - 2 * size
        held = self.logits.flatten(0, 1)[self._starts + places[0]].transpose(1, 2)  # (S, C, M)
        apart = logits[..., own:own + size] - held
        hits = _hits(logits[..., :own], targets[..., :own])
        # Cross-entropy of the whole batch at once, each row with its share in the loss: none of the middle ones.
        shares = self._shares_of(own, size)
        logs = logits.log_softmax(1)
        index = targets.unsqueeze(-2).expand(len(logits), 1, logits.shape[2])
        loss = logs.gather(1, index).mul_(shares).sum((1, 2)).neg_()
        gradient = logs.exp_().scatter_add_(1, index, logs.new_full((), -1.0).expand(index.shape)).mul_(shares)
        distance = apart.square().mean((1, 2))
        torch.mul(apart, self.alpha * (2 / (size * held.shape[1])), out=gradient[..., own:own + size])
        alpha = self.alpha.flatten() if isinstance(self.alpha, Tensor) else self.alpha
        return gradient, loss + alpha * distance, hits

    def _shares_of(self, own: int, size: int) -> Tensor:
        """The share of each row of a batch in the cross-entropy, (1 or S, 1, N)."""
        if own not in self._shares:
            logits = self.logits
            parts = [logits.new_full((1, 1, own), 1 / own), logits.new_zeros(1, 1, size),
                     logits.new_full((1, 1, size), 1 / size) * self.beta]
            width = parts[-1].shape[0]
            self._shares[own] = torch.cat([part.expand(width, 1, -1) for part in parts], 2)
        return self._shares[own]


OBJECTIVES: dict[str, type[Objective]] = {
    'cross-entropy': Objective, 'fisher': EWCObjective, 'distillation': LwFObjective, 'dark-experience': DERppObjective}


def _loss_and_hits(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and number of right answers of each learner, both (S,)."""
    logs = logits.log_softmax(1)
    index = targets.unsqueeze(-2).expand(len(logits), 1, logits.shape[2])
    return logs.gather(1, index).squeeze(1).mean(1).neg_(), _hits(logits, targets)


def _hits(logits: Tensor, targets: Tensor) -> Tensor:
    # Of equal logits the first, as argmax has it.
    return (logits.max(1).indices == targets).sum(1)


def _plugin(strategy: EngineMixin, field: str) -> object:
    return next(plugin for plugin in strategy.plugins if hasattr(plugin, field))


def _alpha(plugin: LwFPlugin) -> float:
    alpha = plugin.lwf.alpha
    return alpha[plugin.lwf.expcount] if isinstance(alpha, (list, tuple)) else alpha
