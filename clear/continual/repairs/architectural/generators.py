"""Avalanche's methods with a generator or an autoencoder: generative replay, AE and VAE training, Expert Gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import GenerativeReplayPlugin as AvalancheGenerativeReplayPlugin
from avalanche.training.supervised import AETraining as AvalancheAETraining
from avalanche.training.supervised import Naive
from avalanche.training.supervised import VAETraining as AvalancheVAETraining
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clear.continual.repairs.architectural.architectures import copy_of
from clear.continual.repairs.architectural.networks import Autoencoder, VAEGenerator, vae_loss
from clear.continual.repairs.split_model import need_parts
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.registry import PLUGINS, STRATEGIES


def _build(cls: type, options: object, needs: str) -> nn.Module:
    if not isinstance(options, dict) or 'shape' not in options:
        raise ConfigError(f'{needs} needs the shape of one sample, e.g. generator=dict(shape=[2048]) for features or '
                          'generator=dict(shape=[3, 32, 32]) for images.')
    try:
        return cls(**options)
    except TypeError as error:
        raise ConfigError(f'{needs}: generator: {error}') from error


@PLUGINS.register_module()
class GenerativeReplayPlugin(AvalancheGenerativeReplayPlugin):
    """Deep generative replay (Shin et al. 2017, arXiv:1705.08690) with a generator that it trains itself.

    Avalanche 0.6 trains the generator by a second strategy, which prints its own log and which no checkpoint holds,
    and its weighted form evaluates the loss of the wrong outputs. Here the plugin trains a `VAEGenerator` after each
    experience, on its samples and on what the old generator replays, with a new Adam each time.

    Args:
        generator: `shape` of one sample, and arguments of `VAEGenerator`.
        generator_epochs, generator_lr: its training.
        replay_size: samples replayed in each iteration; as many as the batch has by default.
        increasing_replay_size: that many for each experience before this one.
        is_weighted_replay: add the replayed samples' loss, weighted by `weight_replay_loss`, in place of mixing them
            into the batch.
        weight_replay_loss_factor: the weight is multiplied by it after every iteration.
    """

    one_head = True

    def __init__(self, generator: dict | None = None, generator_epochs: int = 10, generator_lr: float = 1e-3,
                 replay_size: int | None = None, increasing_replay_size: bool = False,
                 is_weighted_replay: bool = False, weight_replay_loss_factor: float = 1.0,
                 weight_replay_loss: float = 1e-4):
        super().__init__(None, True, replay_size, increasing_replay_size, is_weighted_replay,
                         weight_replay_loss_factor, weight_replay_loss)
        self.generator = _build(VAEGenerator, generator, 'GenerativeReplay')
        self.old_generator = copy_of(self.generator)
        self.old_model: nn.Module | None = None
        self.generator_epochs = generator_epochs
        self.generator_lr = generator_lr

    @property
    def unmixed_batches(self) -> str:
        return 'every' if self.is_weighted_replay else 'first'

    def before_training(self, strategy, *args, **kwargs):
        self.generator.to(strategy.device)
        self.old_generator.to(strategy.device)

    def before_training_exp(self, strategy, num_workers: int = 0, shuffle: bool = True, **kwargs):
        if not self.untrained_solver:
            self.old_model = copy_of(strategy.model)

    def before_backward(self, strategy, *args, **kwargs):
        if not self.is_weighted_replay or self.untrained_solver:
            return
        batch, output = strategy.mbatch, strategy.mb_output
        replayed = self.old_generator.generate(self._count(strategy, len(batch[0])))
        with torch.no_grad():
            targets = self.old_model(replayed).argmax(1)
        strategy.loss += self.weight_replay_loss * strategy._criterion(strategy.model(replayed), targets)
        self.weight_replay_loss *= self.weight_replay_loss_factor
        strategy.mbatch, strategy.mb_output = batch, output

    def _count(self, strategy, size: int) -> int:
        past = strategy.clock.train_exp_counter
        return self.replay_size or (size * past if self.increasing_replay_size else size)

    def after_training_exp(self, strategy, num_workers: int = 0, **kwargs):
        optimizer = torch.optim.Adam(self.generator.parameters(), lr=self.generator_lr)
        loader = DataLoader(strategy.experience.dataset, batch_size=strategy.train_mb_size, shuffle=True,
                            num_workers=num_workers)
        self.generator.train()
        for _ in range(self.generator_epochs):
            for x, *_ in loader:
                x = x.to(strategy.device)
                if not self.untrained_solver:
                    x = torch.cat([x, self.old_generator.generate(self._count(strategy, len(x)))])
                optimizer.zero_grad()
                vae_loss(x, self.generator(x)).backward()
                optimizer.step()
        self.generator.zero_grad()
        self.old_generator.load_state_dict(self.generator.state_dict())
        self.untrained_solver = False


@STRATEGIES.register_module()
class GenerativeReplay(Naive):
    """Fine-tuning with a `GenerativeReplayPlugin`, whose arguments these are."""

    one_head = True
    unmixed_batches = 'every'

    def __init__(self, *, generator: dict | None = None, generator_epochs: int = 10, generator_lr: float = 1e-3,
                 replay_size: int | None = None, increasing_replay_size: bool = False,
                 is_weighted_replay: bool = False, weight_replay_loss_factor: float = 1.0,
                 weight_replay_loss: float = 1e-4, plugins: list | None = None, **kwargs):
        plugin = GenerativeReplayPlugin(generator, generator_epochs, generator_lr, replay_size, increasing_replay_size,
                                        is_weighted_replay, weight_replay_loss_factor, weight_replay_loss)
        super().__init__(plugins=[*(plugins or []), plugin], **kwargs)


class TrainsGenerator:
    """Comes first among the bases of a strategy that trains a generator in place of the config's model."""

    own_loss = True
    is_classifier = False
    network: type[nn.Module]

    @classmethod
    def prepare_model(cls, model: nn.Module, *, device, generator: dict | None = None, **_) -> nn.Module:
        return _build(cls.network, generator, cls.__name__).to(device)

    def __init__(self, *, generator: dict | None = None, **kwargs):
        super().__init__(**kwargs)


@STRATEGIES.register_module()
class VAETraining(TrainsGenerator, AvalancheVAETraining):
    """Trains a `VAEGenerator` through the stream, in place of the config's model. It classifies nothing.

    Args:
        generator: `shape` of one sample, and arguments of `VAEGenerator`.
    """

    network = VAEGenerator

    def __init__(self, **kwargs):
        super().__init__(criterion=vae_loss, **kwargs)


@STRATEGIES.register_module()
class AETraining(TrainsGenerator, AvalancheAETraining):
    """Trains an `Autoencoder` through the stream, in place of the config's model. It classifies nothing.

    Args:
        generator: `shape` of one sample, and arguments of `Autoencoder`.
    """

    network = Autoencoder


class GatedExperts(nn.Module):
    """A copy of a classifier for each bucket, and an autoencoder for each that says which samples are its own.

    In eval mode every sample goes to the expert whose autoencoder reconstructs it best. `load_state_dict` grows the
    experts that the state has.

    Args:
        template: the classifier; its first weights, frozen, give the features that the autoencoders see.
        latent_dim: of the autoencoders.

    Shape:
        x: (N, ...)   returns: (N, C)
    """

    def __init__(self, template: nn.Module, latent_dim: int = 100):
        super().__init__()
        self.template = copy_of(template)
        self.latent_dim = latent_dim
        self.experts = nn.ModuleDict()
        self.gates = nn.ModuleDict()

    def gate_input(self, x: Tensor) -> Tensor:
        self.template.eval()
        with torch.no_grad():
            return self.template.extract_features(x)[-1].flatten(1)

    def grow(self, source: nn.Module, num_inputs: int) -> None:
        """Add an expert, a copy of `source`, and a gate for inputs of that length."""
        name, device = str(len(self.experts)), next(self.template.parameters()).device
        expert = copy_of(source).requires_grad_(True).train()
        self.experts[name] = expert.to(device)
        self.gates[name] = Autoencoder([num_inputs], self.latent_dim).to(device)

    def forward(self, x: Tensor) -> Tensor:
        if not self.experts:
            return self.template(x)
        if self.training:
            return self.experts[str(len(self.experts) - 1)](x)
        inputs = self.gate_input(x)
        errors = torch.stack([gate.error(inputs) for gate in self.gates.values()])  # (experts, N)
        chosen = errors.argmin(0)
        outputs = torch.stack([expert(x) for expert in self.experts.values()])  # (experts, N, C)
        return outputs[chosen, torch.arange(len(x), device=x.device)]

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        while f'gates.{len(self.gates)}.encoder.1.weight' in state_dict:
            self.grow(self.template, state_dict[f'gates.{len(self.gates)}.encoder.1.weight'].shape[1])
        return super().load_state_dict(state_dict, strict, assign)


@PLUGINS.register_module()
class ExpertGatePlugin(SupervisedPlugin):
    """Expert Gate (Aljundi et al. 2017, arXiv:1611.06194): a new expert for each bucket, from the most related one.

    Relatedness to a past bucket is 1 - (its autoencoder's error - the new one's) / the new one's, on the new samples.
    Above `rel_thresh` the new expert is held to the outputs of the related one, as in learning without forgetting.

    Args:
        ae_train_mb_size, ae_train_epochs, ae_lr: training of the autoencoders.
        rel_thresh: see above.
        alpha, temp: weight and temperature of the distillation.
    """

    def __init__(self, ae_train_mb_size: int = 1, ae_train_epochs: int = 2, ae_lr: float = 1e-3,
                 rel_thresh: float = 0.85, alpha: float = 0.01, temp: float = 2.0):
        super().__init__()
        self.ae_train_mb_size = ae_train_mb_size
        self.ae_train_epochs = ae_train_epochs
        self.ae_lr = ae_lr
        self.rel_thresh = rel_thresh
        self.alpha = alpha
        self.temp = temp
        self.related: int | None = None  # the expert that the current one is held to

    def before_train_dataset_adaptation(self, strategy, **kwargs):
        # Before the optimiser is made to fit the model, so that it gets the new expert's parameters.
        model, dataset = strategy.model, strategy.experience.dataset
        if len(model.experts) > strategy.clock.train_exp_counter:
            return  # taken up from a checkpoint
        inputs = torch.cat([model.gate_input(x.to(strategy.device)) for x, *_ in
                            DataLoader(dataset.eval(), batch_size=strategy.eval_mb_size)])
        model.grow(model.template, inputs.shape[1])
        newest = len(model.experts) - 1
        self._train_gate(model.gates[str(newest)], inputs)
        self.related = None
        if newest:
            with torch.no_grad():
                errors = [float(gate.error(inputs).mean()) for gate in model.gates.values()]
            relatedness = [1 - (error - errors[-1]) / max(errors[-1], 1e-12) for error in errors[:-1]]
            best = max(range(newest), key=relatedness.__getitem__)
            model.experts[str(newest)].load_state_dict(model.experts[str(best)].state_dict())
            self.related = best if relatedness[best] > self.rel_thresh else None
            logger.info('experience %d: new expert from that of experience %d, relatedness %.3f%s', newest, best,
                        relatedness[best], '' if self.related is None else ', held to it')
        for name, expert in model.experts.items():
            expert.requires_grad_(int(name) == newest)
        model.gates.requires_grad_(False)

    def _train_gate(self, gate: Autoencoder, inputs: Tensor) -> None:
        optimizer = torch.optim.SGD(gate.parameters(), lr=self.ae_lr, momentum=0.9, weight_decay=5e-4)
        for _ in range(self.ae_train_epochs):
            for rows in torch.randperm(len(inputs)).split(self.ae_train_mb_size):
                optimizer.zero_grad()
                gate.error(inputs[rows]).mean().backward()
                optimizer.step()
        gate.zero_grad()

    def before_backward(self, strategy, **kwargs):
        if self.related is None:
            return
        expert = strategy.model.experts[str(self.related)].eval()
        with torch.no_grad():
            targets = (expert(strategy.mb_x) / self.temp).softmax(1)
        student = (strategy.mb_output / self.temp).log_softmax(1)
        strategy.loss += self.alpha * F.kl_div(student, targets, reduction='batchmean')


@STRATEGIES.register_module()
class ExpertGateStrategy(Naive):
    """Expert Gate over copies of our model (see `GatedExperts` and `ExpertGatePlugin`).

    Avalanche 0.6 is tied to AlexNet and 224 pixels, sends a whole batch to one expert, and stops without its
    pretrained weights ('AlexNet_Weights.NONE'). Here experts are copies of the config's model.

    Args:
        ae_latent_dim: of the autoencoders.
        rest: the plugin's.
    """

    one_head = True
    unmixed_batches = 'every'

    @staticmethod
    def prepare_model(model: nn.Module, *, device, ae_latent_dim: int = 100, **_) -> nn.Module:
        need_parts(model, 'ExpertGateStrategy', 'extract_features')
        return GatedExperts(model, ae_latent_dim).to(device)

    def __init__(self, *, ae_train_mb_size: int = 1, ae_train_epochs: int = 2, ae_lr: float = 1e-3,
                 ae_latent_dim: int = 100, rel_thresh: float = 0.85, alpha: float = 0.01, temp: float = 2.0,
                 plugins: list | None = None, **kwargs):
        plugin = ExpertGatePlugin(ae_train_mb_size, ae_train_epochs, ae_lr, rel_thresh, alpha, temp)
        super().__init__(plugins=[*(plugins or []), plugin], **kwargs)
