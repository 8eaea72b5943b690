"""Networks of Avalanche's architectural methods, made from a config or our model, that answer without task labels.

A test sample of a CLEAR stream does not say from which bucket it is. Methods with a part for each bucket therefore
answer with the newest part, or choose one by the sample itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from avalanche.models import PNN
from avalanche.models.packnet import PackNetModel
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.core.files import load_tensors

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.generic_scenario import CLExperience


class ProgressiveNetwork(PNN):
    """Avalanche's progressive network (Rusu et al. 2016, arXiv:1606.04671), one column and head for each bucket.

    Without task labels the newest column answers. `load_state_dict` grows the columns that the state has.

    Args:
        in_features: length of a flattened sample.
        num_layers, hidden_features_per_column, adapter: as in Avalanche.

    Shape:
        x: (N, ...) with in_features numbers each   returns: (N, classes seen)
    """

    def __init__(self, in_features: int, num_layers: int = 1, hidden_features_per_column: int = 100,
                 adapter: str = 'mlp'):
        super().__init__(num_layers=num_layers, in_features=in_features,
                         hidden_features_per_column=hidden_features_per_column, adapter=adapter)
        self.register_buffer('tasks', torch.zeros(0, dtype=torch.int64))

    def adaptation(self, experience: CLExperience) -> None:
        super().adaptation(experience)
        new = [int(task) for task in dict.fromkeys(experience.task_labels) if task not in self.tasks.tolist()]
        self.tasks = torch.cat([self.tasks, self.tasks.new_tensor(new)])

    def forward(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        if task_labels is None:
            return self.forward_single_task(x, int(self.tasks[-1]) if len(self.tasks) else 0)
        return super().forward(x, task_labels)

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        known = self.tasks.tolist()
        for task in state_dict['tasks'].tolist():
            if task not in known:
                units = state_dict[f'classifier.classifiers.{task}.classifier.weight'].shape[0]
                stand_in = SimpleNamespace(task_labels=[task], classes_in_this_experience=list(range(units)),
                                           dataset=SimpleNamespace(targets_task_labels=[task]))
                for module in self.modules():
                    if hasattr(module, 'adaptation'):
                        module.adaptation(stand_in)
        return super().load_state_dict(state_dict, strict, assign)


class PackedNetwork(PackNetModel):
    """Avalanche's PackNet (Mallya and Lazebnik 2018, arXiv:1711.05769) around a model of ours.

    Without a task label the weights of the newest finished task, and of those before it, answer.

    Raises:
        ConfigError: if the model has layers that PackNet cannot mask.
    """

    def __init__(self, model: nn.Module):
        try:
            super().__init__(model)
        except ValueError as error:
            raise ConfigError(f'PackNet masks the weights of linear and convolution layers: {error}') from error

    def forward(self, x: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        if task_labels is None:
            task = self.task_count if self.training or self.task_count == 0 else self.task_count - 1
            self.activate_task(task)
            return self.wrappee(x)
        if isinstance(task_labels, int):
            task_labels = torch.full((len(x),), task_labels)
        return super().forward(x, task_labels)


class Normalize(nn.Module):
    """Rows of unit length."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


class PrototypeClassifier(nn.Module):
    """Similarity of an embedded feature to a prototype of each class (De Lange and Tuytelaars 2021, CoPE).

    Args:
        embedding: maps features (N, D) to unit vectors (N, P).

    Shape:
        features: (N, D)   returns: (N, C), cosines
    """

    def __init__(self, embedding: nn.Module, num_classes: int, embed_dim: int):
        super().__init__()
        self.embedding = embedding
        self.register_buffer('prototypes', torch.zeros(num_classes, embed_dim))

    def forward(self, features: Tensor) -> Tensor:
        return self.embedding(features) @ self.prototypes.T  # (N, P) @ (P, C) -> (N, C)


class PromptedClassifier(nn.Module):
    """Learning to prompt (Wang et al. 2022, arXiv:2112.08654): a frozen ViT, a pool of prompts, and a linear layer.

    Avalanche 0.6 builds it through a part of timm that has changed ('PretrainedCfg' object is not subscriptable) and
    with a layer of 768 inputs whatever the network. Here its network class is built directly, of any size.

    Args:
        num_classes: outputs.
        vit: arguments of timm's VisionTransformer, e.g. img_size, patch_size, embed_dim, depth, num_heads.
        checkpoint: path of a state dict of that VisionTransformer (loaded as tensors only); None leaves random
            weights, which the method is not made for.
        use_cls_features: choose prompts by the class token of a second, frozen copy of the ViT.
        prompt: arguments of the prompt pool, see `LearningToPrompt`.

    Shape:
        x: (N, 3, H, W)   returns: (N, num_classes); `reduce_sim` keeps the similarity of queries and chosen keys
    """

    FROZEN = ('blocks', 'patch_embed', 'cls_token', 'norm', 'pos_embed')

    def __init__(self, num_classes: int, vit: dict | None = None, checkpoint: str | None = None,
                 use_cls_features: bool = True, **prompt):
        super().__init__()
        from avalanche.models.timm_vit import ViTWithPrompt
        from timm.models.vision_transformer import VisionTransformer

        options = dict(vit or {})
        try:
            self.prompted = ViTWithPrompt(num_classes=num_classes, **options, **prompt)
            self.original = VisionTransformer(num_classes=0, **options) if use_cls_features else None
        except TypeError as error:
            raise ConfigError(f'LearningToPrompt: {error}') from error
        if checkpoint is not None:
            self._load(checkpoint)
        for name, parameter in self.prompted.named_parameters():
            parameter.requires_grad_(not name.startswith(self.FROZEN))
        if self.original is not None:
            self.original.requires_grad_(False)
        self.num_classes = num_classes
        self.train_prompt_mask = False
        self.task = -1
        self.__dict__['reduce_sim'] = None

    def forward(self, x: Tensor) -> Tensor:
        cls_features = None
        if self.original is not None:
            self.original.eval()
            with torch.no_grad():
                cls_features = self.original(x)
        result = self.prompted(x, task_id=self.task, cls_features=cls_features,
                               train=self.training and self.train_prompt_mask)
        self.__dict__['reduce_sim'] = result.get('reduce_sim', x.new_zeros(()))
        return result['logits']

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, 'reduce_sim': None}  # belongs to a graph, which torch does not copy

    def _load(self, path: str) -> None:
        from avalanche.models.timm_vit import resize_pos_embed

        state = {key: value for key, value in load_tensors(path).items() if not key.startswith('head.')}
        if self.original is not None:
            _strictly(self.original, state, path)
        tokens = state.get('pos_embed')
        if tokens is not None and tokens.shape != self.prompted.pos_embed.shape:
            state['pos_embed'] = resize_pos_embed(tokens, self.prompted.pos_embed, 1,
                                                  self.prompted.patch_embed.grid_size)
        _strictly(self.prompted, state, path, added=('prompt.', 'head.'))


def _strictly(model: nn.Module, state: dict, path: str, added: Sequence[str] = ()) -> None:
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.startswith(tuple(added))]
    if missing or unexpected:
        raise ConfigError(f'{path} does not fit the ViT of LearningToPrompt: missing {missing[:3]}, unexpected '
                          f'{unexpected[:3]}. Compare the options in vit.')


class Autoencoder(nn.Module):
    """One hidden layer over the sigmoid of an input, as in Expert Gate (Aljundi et al. 2017, arXiv:1611.06194).

    Args:
        shape: of one input.
        latent_dim: width of the hidden layer.

    Shape:
        x: (N, *shape)   returns: (N, *shape), the reconstruction of sigmoid(x)
    """

    def __init__(self, shape: Sequence[int], latent_dim: int = 100):
        super().__init__()
        self.shape = tuple(shape)
        size = torch.Size(self.shape).numel()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, latent_dim), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(latent_dim, size), nn.Sigmoid())

    def feature_module(self, x: Tensor) -> Tensor:
        """What is reconstructed, before the sigmoid; Avalanche's name."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x.sigmoid())).view(-1, *self.shape)

    def error(self, x: Tensor) -> Tensor:
        """Squared error of each sample, (N,)."""
        return (self(x) - x.sigmoid()).flatten(1).square().sum(1)


class VAEGenerator(nn.Module):
    """A variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114) that generates samples for replay.

    Avalanche's maps its output by the mean and deviation of MNIST; here it is linear, so it fits stored features and
    images under any normalisation.

    Args:
        shape: of one sample.
        latent_dim: length of the code.
        hidden: width of the hidden layers.

    Shape:
        x: (N, *shape)   returns: reconstruction (N, *shape), mean (N, latent_dim), log-variance (N, latent_dim)
    """

    def __init__(self, shape: Sequence[int], latent_dim: int = 16, hidden: int = 256):
        super().__init__()
        self.shape = tuple(shape)
        self.latent_dim = latent_dim
        size = torch.Size(self.shape).numel()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent_dim)
        self.log_variance = nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if tuple(x.shape[1:]) != self.shape:
            raise ConfigError(f'cl_strategy.generator has shape={list(self.shape)}, but a sample is '
                              f'{list(x.shape[1:])}. Set shape to that.')
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(code).view(-1, *self.shape), mean, log_variance

    def generate(self, batch_size: int | None = None) -> Tensor:
        """Samples from the prior, (batch_size, *shape); one without a batch dimension if it is None."""
        code = torch.randn(batch_size or 1, self.latent_dim, device=self.mean.weight.device)
        with torch.no_grad():
            samples = self.decoder(code).view(-1, *self.shape)
        return samples if batch_size else samples[0]


def vae_loss(x: Tensor, output: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Squared error plus divergence from the prior, summed over dimensions, mean over samples: ()."""
    reconstruction, mean, log_variance = output
    error = (reconstruction - x).flatten(1).square().sum(1)
    divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(1)
    return (error + divergence).mean()
