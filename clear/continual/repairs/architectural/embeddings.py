"""Avalanche's methods that train or prompt an embedding, on our models: SCR, CoPE, learning to prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.training.losses import SCRLoss
from avalanche.training.plugins import CoPEPlugin as AvalancheCoPEPlugin
from avalanche.training.supervised import SCR as AvalancheSCR
from avalanche.training.supervised import CoPE as AvalancheCoPE
from avalanche.training.supervised import LearningToPrompt as AvalancheLearningToPrompt
from torch import Tensor, nn

from clear.continual.buffers import ClassBalancedBuffer
from clear.continual.repairs.architectural.networks import Normalize, PromptedClassifier, PrototypeClassifier
from clear.continual.repairs.rehearsal.replay import ReplayPlugin
from clear.continual.repairs.split_model import feature_dim, last_linear, need_parts, split, with_eval_classifier
from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.datasets import BadSampleError
from clear.registry import PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from clear.datasets.transforms.build import ImageTransform


@STRATEGIES.register_module()
class SCR(AvalancheSCR):
    """Supervised contrastive replay (Mai et al. 2021, arXiv:2103.13885): contrast in training, nearest mean in use.

    Features are the model's before its last layer, which is replaced by a projection in training, onto the unit sphere
    (the loss is that of Khosla et al. 2020, arXiv:2004.11362, section 3.1). Class means are those of the memory by the
    present encoder. Avalanche 0.6 averages them with the means by the encoders before, and does not normalise
    projections. Its loss stays, with the factor temperature / 0.07, and so does the memory that is filled when an
    experience ends; the paper fills it in every iteration.

    Args:
        augmentations: transforms as in `scenario.train_transform`, each sample its own draw; None contrasts samples
            with others of their class and an equal copy.
        mem_size, batch_size_mem, temperature: as in Avalanche.
        projection_dim: length of the projection.
        legacy: Avalanche's mixed means, projections of any length, and shares of the memory.
    """

    one_head = True
    own_loss = True
    embeds_in_training = True
    method_version = 2
    method_remedy = 'cl_strategy.legacy=True brings the earlier form back'

    @staticmethod
    def prepare_model(model: nn.Module, *, device, projection_dim: int = 128, legacy: bool = False,
                      **_) -> nn.Module:
        model = with_eval_classifier(model, 'ncm', 'SCR', normalize=True)
        dim = feature_dim(model)
        last_linear(model).requires_grad_(False)  # nothing reads it
        onto_sphere = [] if legacy else [Normalize()]
        model.train_head = nn.Sequential(Normalize(), nn.Linear(dim, dim), nn.ReLU(),
                                         nn.Linear(dim, projection_dim), *onto_sphere).to(device)
        return model

    def __init__(self, *, mem_size: int = 100, batch_size_mem: int = 100, temperature: float = 0.1,
                 augmentations: list[dict] | None = None, projection_dim: int = 128, train_mb_size: int = 1,
                 plugins: list | None = None, legacy: bool = False, **kwargs):
        check_number('temperature', temperature, above=0)
        self._augmentation = _transform(augmentations)
        self.temperature = temperature
        self.replay_plugin = ReplayPlugin(mem_size, batch_size=train_mb_size, batch_size_mem=batch_size_mem,
                                          storage_policy=ClassBalancedBuffer(mem_size, legacy=legacy))
        self.legacy = legacy
        if legacy:
            self.method_version = 1
        self.train_loss = SCRLoss(temperature=temperature)
        self.eval_loss = nn.CrossEntropyLoss()
        # Past Avalanche's constructor, which wants a model of its own class.
        super(AvalancheSCR, self).__init__(criterion=self.train_loss, train_mb_size=train_mb_size,
                                           plugins=[self.replay_plugin, *(plugins or [])], **kwargs)

    def augmentations(self, batch: Tensor) -> Tensor:
        """A second view of every sample of a batch."""
        if self._augmentation is None:
            return batch
        return torch.stack([self._augmentation(sample) for sample in batch])

    def compute_class_means(self) -> None:
        if not self.legacy:  # Avalanche's update averages with means that are there
            self.model.eval_classifier.replace_class_means_dict({})
        super().compute_class_means()


def _transform(configs: list[dict] | None) -> ImageTransform | None:
    if not configs:
        return None
    from clear.datasets.transforms import build_transform

    return build_transform(configs, 'cl_strategy.augmentations')


def prototype_model(model: nn.Module, embed_dim: int) -> nn.Module:
    """`split`, with an embedding on the unit sphere for training and prototypes in it for evaluation."""
    model = split(model, 'CoPE')
    last = last_linear(model)
    embedding = nn.Sequential(nn.Linear(feature_dim(model), embed_dim), Normalize())
    classifier = PrototypeClassifier(embedding, model.num_classes, embed_dim).to(last.weight.device)
    last.requires_grad_(False)  # nothing reads it
    model.add_module('eval_classifier', classifier)
    model.add_module('train_head', embedding)
    return model


@PLUGINS.register_module()
class CoPEPlugin(AvalancheCoPEPlugin):
    """Continual prototype evolution (De Lange and Tuytelaars 2021, arXiv:2009.00919).

    Avalanche 0.6 puts a layer into the model at the first call and classifies in its own evaluation only; here
    the model holds embedding and prototypes from the start (see `PrototypeClassifier`). Prototypes move after every
    batch (Algorithm 1); Avalanche moves them when an experience ends, which is a batch there. The mean of a batch is
    put onto the unit sphere before it is taken into the prototype, as in Avalanche, and the memory is filled when an
    experience ends; the paper takes the plain mean and fills the memory with every batch.

    Args:
        max_it_cnt: iterations of each experience; None for all. (Avalanche's 1 is for streams of single batches.) With
            a number the experience is the batch, and prototypes move at its end.
        alpha: momentum of the prototypes, in [0, 1].
        T: temperature of the loss, > 0.
        kwargs: as in Avalanche.
        legacy: move prototypes at the end of an experience only; Avalanche's shares of the memory.
    """

    one_head = True
    method_version = 2
    method_remedy = 'legacy=True, of CoPE or its plugin, brings the earlier form back'

    def __init__(self, *, max_it_cnt: int | None = None, mem_size: int = 200, alpha: float = 0.99, T: float = 0.1,  # noqa: N803
                 legacy: bool = False, **kwargs):
        if max_it_cnt is not None:
            check_whole('max_it_cnt', max_it_cnt, 1)
        check_number('alpha', alpha, 0, 1)
        check_number('T', T, above=0)
        super().__init__(max_it_cnt=max_it_cnt, mem_size=mem_size, alpha=alpha, T=T, **kwargs)
        self.storage_policy = ClassBalancedBuffer(mem_size, legacy=legacy)
        self.legacy = legacy
        if legacy or max_it_cnt is not None:
            self.method_version = 1

    def prepare_model(self, model: nn.Module) -> nn.Module:
        return prototype_model(model, self.p_size)

    def before_training(self, strategy, **kwargs):
        classifier = strategy.model.eval_classifier
        strategy._criterion = self.ppp_loss
        if not self.initialized:
            self._init_new_prototypes(torch.arange(self.n_classes, device=strategy.device))
            self.initialized = True
        self._show(classifier)

    def before_training_exp(self, strategy, num_workers=0, shuffle=True, **kwargs):
        self.it_cnt = 0
        super().before_training_exp(strategy, num_workers=num_workers, shuffle=shuffle, **kwargs)

    def after_training_iteration(self, strategy, **kwargs):
        super().after_training_iteration(strategy, **kwargs)
        if self.max_it_cnt is None and not self.legacy:
            self._update_prototypes()
            self._show(strategy.model.eval_classifier)

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        self._show(strategy.model.eval_classifier)

    def after_eval_iteration(self, strategy, **kwargs):
        """The model classifies itself."""

    def _show(self, classifier: PrototypeClassifier) -> None:
        for label, prototype in self.p_mem.items():
            classifier.prototypes[label] = prototype[0]


@STRATEGIES.register_module()
class CoPE(AvalancheCoPE):
    """Avalanche's strategy on our model: its features, embedded on the unit sphere, near a prototype of their class.

    Args:
        mem_size, p_size, alpha, T: as in Avalanche.
        max_it_cnt, legacy: the plugin's.
    """

    one_head = True
    unmixed_batches = 'first'  # in later ones too, once its pass over the memory has ended
    own_loss = True
    embeds_in_training = True

    @staticmethod
    def prepare_model(model: nn.Module, *, p_size: int = 100, **_) -> nn.Module:
        return prototype_model(model, p_size)

    def __init__(self, *, model: nn.Module, mem_size: int = 200, p_size: int = 100, alpha: float = 0.99,
                 T: float = 0.1, max_it_cnt: int | None = None, legacy: bool = False,  # noqa: N803
                 plugins: list | None = None, **kwargs):
        plugin = CoPEPlugin(mem_size=mem_size, n_classes=model.num_classes, p_size=p_size, alpha=alpha, T=T,
                            max_it_cnt=max_it_cnt, legacy=legacy)
        super(AvalancheCoPE, self).__init__(model=model, criterion=plugin.ppp_loss, plugins=[*(plugins or []), plugin],
                                            **kwargs)


def _first_shape(dataset) -> tuple[int, ...] | None:
    """Shape of the first input that can be read; None if there is none among the first ten."""
    for row in range(min(len(dataset), 10)):
        try:
            return tuple(dataset[row][0].shape)
        except BadSampleError:  # in evaluation nothing stands in for it
            continue
    return None


def _check_image(shape: tuple[int, ...], patches: nn.Module, key: str) -> None:
    expected = (patches.proj.in_channels, *patches.img_size)
    if shape == expected:
        return
    found, wanted = (' x '.join(map(str, each)) for each in (shape, expected))
    if len(shape) != 3:
        raise ConfigError(f'LearningToPrompt takes images, {wanted} by its ViT; a sample here is {found}.')
    size = shape[1] if shape[1] == shape[2] else list(shape[1:])
    channels = '' if shape[0] == expected[0] else f', in_chans={shape[0]}'
    raise ConfigError(
        f'The ViT of LearningToPrompt takes images of {wanted} (channels x height x width), but scenario.{key} gives '
        f'{found}. Set cl_strategy.vit=dict(img_size={size}{channels}, ...), with a patch_size that divides it, or put '
        f"dict(type='Resize', size={list(expected[1:])}) into scenario.train_transform and scenario.eval_transform.")


@STRATEGIES.register_module()
class LearningToPrompt(AvalancheLearningToPrompt):
    """Learning to prompt on a ViT of its own (see `PromptedClassifier`); the config's model gives way to it.

    Departures from Avalanche 0.6: the ViT is built directly, weights come from a file, and the optimiser is the
    config's (Avalanche makes an Adam of its own at each experience: use `optimizer_policy='reset'`).

    Args:
        vit: arguments of timm's VisionTransformer; images of another size are refused before the first step.
        checkpoint: path of its weights.
        pool_size, prompt_length, top_k, prompt_key, embedding_key, prompt_init, batchwise_prompt, head_type,
            use_prompt_mask: of the prompt pool.
        sim_coefficient: weight of the similarity of queries and chosen keys.
        use_mask: train on the classes of the experience only.
        train_prompt_mask: choose prompts by task in training.
        use_cls_features: see `PromptedClassifier`.
    """

    one_head = True
    POOL = dict(prompt_pool=True, pool_size=20, prompt_length=5, top_k=5, prompt_key=True, embedding_key='cls',
                prompt_init='uniform', batchwise_prompt=False, head_type='prompt', use_prompt_mask=False)

    @classmethod
    def prepare_model(cls, model: nn.Module, *, device, vit: dict | None = None, checkpoint: str | None = None,
                      use_cls_features: bool = True, **options) -> nn.Module:
        need_parts(model, 'LearningToPrompt', 'num_classes')
        pool = {key: options.get(key, value) for key, value in cls.POOL.items()}
        return PromptedClassifier(model.num_classes, vit, checkpoint, use_cls_features, **pool).to(device)

    def __init__(self, *, vit: dict | None = None, checkpoint: str | None = None, use_cls_features: bool = True,
                 sim_coefficient: float = 0.1, use_mask: bool = True, train_prompt_mask: bool = False,
                 pool_size: int = 20, prompt_length: int = 5, top_k: int = 5, prompt_key: bool = True,
                 embedding_key: str = 'cls', prompt_init: str = 'uniform', batchwise_prompt: bool = False,
                 head_type: str = 'prompt', use_prompt_mask: bool = False, **kwargs):
        # Past Avalanche's constructor, which builds model and optimiser.
        super(AvalancheLearningToPrompt, self).__init__(**kwargs)
        self.sim_coefficient = sim_coefficient
        self.use_mask = use_mask
        self.model.train_prompt_mask = train_prompt_mask

    def _before_training_exp(self, **kwargs):
        if self.clock.train_exp_counter == 0:
            self._check_images()
        super(AvalancheLearningToPrompt, self)._before_training_exp(**kwargs)
        self.model.task = int(self.clock.train_exp_counter)

    def _check_images(self) -> None:
        """Refuse images that the ViT cannot take, of either stream, before the first step.

        Raises:
            ConfigError: naming both sizes and what to set.
        """
        streams = dict(train=[self.experience], test=self.experience.benchmark.test_stream)
        for part, key in (('train', 'train_transform'), ('test', 'eval_transform')):
            shape = _first_shape(streams[part][0].dataset)
            if shape is not None:
                _check_image(shape, self.model.prompted.patch_embed, key)

    def forward(self):
        logits = self.model(self.mb_x)
        if self.use_mask and self.is_training:
            masked = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
            masked[sorted(map(int, self.experience.classes_in_this_experience))] = False
            logits = logits.masked_fill(masked, float('-inf'))
        return logits

    def criterion(self):
        return self._criterion(self.mb_output, self.mb_y) - self.sim_coefficient * self.model.reduce_sim
