"""What the tasks of ELEVATER share: the set and its classes as text, the rows of a split, the file of predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.files import inside
from clear.evaluation.elevater.encoders import squashing
from clear.evaluation.elevater.heads.scores import score_probabilities
from clear.evaluation.elevater.knowledge import gpt3_file, knowledge_file, knowledge_texts
from clear.evaluation.elevater.sampler import label_vectors
from clear.evaluation.elevater.sets import BenchmarkSet, benchmark_set
from clear.evaluation.elevater.submission import ParameterCounts, check_free, mode_folder, write_predictions
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.language.prompts import AVERAGES, Prompting, check_encodes_text, check_width, prompt_vectors
from clear.evaluation.metrics.similarity import unit_rows
from clear.evaluation.task import TaskData
from clear.features import extract

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.datasets.table import ImageTable
    from clear.features import FeatureBank


# Arguments that change where and how fast predictions are made, not what they are.
_NO_SETTING = ('predictions', 'model_name', 'bank_root', 'device', 'num_workers', 'memory_mb', 'seeds')


@dataclass(frozen=True)
class SplitRows:
    """The readable images of a split.

    Args:
        features: (M, D) float32.
        labels: the class indices of each.
        places: (M,) int64, their rows among all images of the split.
        total: images of the split.
    """

    features: Tensor
    labels: list[list[int]]
    places: Tensor
    total: int

    def __len__(self) -> int:
        return len(self.labels)

    def labelled(self, keep_empty: bool) -> SplitRows:
        """Those with a label; all of them where an image may show none of the classes."""
        kept = [row for row, own in enumerate(self.labels) if own or keep_empty]
        return SplitRows(self.features[kept], [self.labels[row] for row in kept], self.places[kept], self.total)

    def in_full(self, probabilities: Tensor) -> Tensor:
        """(total, C): those of the readable images in their places, all classes alike elsewhere."""
        full = torch.full((self.total, probabilities.shape[1]), 1 / probabilities.shape[1], dtype=torch.float64)
        full[self.places] = probabilities.double().cpu()
        return full


@dataclass(kw_only=True)
class ElevaterTask:
    """A set of ELEVATER, and how its classes become text. The base of its tasks, and none itself.

    Args:
        set: a set by the name of its config or of the benchmark, or one of one's own with a `metric`.
        metric, center_crop: of a set of one's own, see `benchmark_set`. Without the centre cut, images are brought to
            the square whole, in a bank of their own.
        names, templates, match: see `Prompting`.
        prompt_average: see `prompt_vectors`.
        knowledge: options of `knowledge_texts`, a dict such as `dict(folder='data/knowledge', gpt3=5)`: every prompt of
            a class is taken with each of its texts. None takes prompts as they are.
        predictions: folder to write the probabilities of the test images to; see `write_predictions`. Images that
            cannot be read get the same for all classes there, and are left out of the metric. Each encoder has a folder
            in it, by its name in the config; other options than before need another one.
        model_name: what the encoder is called in that file; None takes its name in the config.
        bank_root: where a bank is made that the runner's do not serve for; None takes the `root` of the config's
            `banks`. It is stored as those say in any case.
        device, num_workers: as elsewhere.
    """

    splits: ClassVar = ('train', 'test')

    set: str
    metric: str | None = None
    center_crop: bool | None = None
    names: Sequence[str | Sequence[str]] | str | Mapping | None = None
    templates: Sequence[str] | str | Mapping | None = None
    match: str = 'check'
    prompt_average: str = 'normalised'
    knowledge: Mapping | None = None
    predictions: str | None = None
    model_name: str | None = None
    bank_root: str | None = None
    device: str = 'cpu'
    num_workers: int = 0

    def __post_init__(self):
        self.benchmark: BenchmarkSet = benchmark_set(self.set, self.metric, self.center_crop)
        self.prompting = Prompting(self.names, self.templates, self.match)
        check_choice('prompt_average', self.prompt_average, AVERAGES)
        if self.knowledge is not None:
            if not isinstance(self.knowledge, Mapping) or 'folder' not in self.knowledge:
                raise ConfigError(f"knowledge is {self.knowledge!r}; expected dict(folder='...', gpt3=5) or the like.")
            known = accepted_arguments(knowledge_texts) - {'set_name', 'class_names'}
            check_keys('knowledge', self.knowledge, known, 'knowledge_texts')
        for name in ('predictions', 'model_name', 'bank_root'):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))

    @property
    def needs(self) -> tuple[str, ...]:
        """Banks of the runner where they serve; images always, since they know the labels of images of several."""
        return ('images', *(('bank',) if self.reads_bank else ()), *(('text_encoder',) if self.uses_text else ()))

    @property
    def reads_bank(self) -> bool:
        """Whether the runner's banks serve."""
        return self.benchmark.center_crop

    @property
    def encodes_by_itself(self) -> bool:
        """Whether banks of its own are made, or the encoder trains."""
        return not self.reads_bank

    @property
    def uses_text(self) -> bool:
        """Whether classes are encoded as text."""
        return True

    def files_fingerprint(self) -> str:
        """A digest of names, prompts and knowledge, of whatever file or package."""
        digest = hashlib.sha256(self.prompting.fingerprint().encode())
        for file in (knowledge_file, gpt3_file) if self.knowledge is not None else ():
            path = file(self.knowledge['folder'], self.benchmark.name)
            digest.update(path.read_bytes() if path.is_file() else b'none')
        return digest.hexdigest()

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse images whose classes the names do not fit.

        Raises:
            DataError: saying why.
        """
        if self.uses_text:
            self.prompting.check(known)

    def class_vectors(self, encoder: nn.Module, known: Sequence[str]) -> tuple[Tensor, dict[str, object]]:
        """(C, D) unit vectors of the classes, on the device, and what to say of their prompts.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for names that do not fit, or classes that the knowledge does not have.
        """
        encode = check_encodes_text(encoder, type(self).__name__)
        classes = self.prompting.of(known)
        prompts, extras = classes.prompts, classes.extras(encoder)
        if self.knowledge is not None:
            suffixes = knowledge_texts(self.benchmark.name, classes.names, **self.knowledge)
            prompts = [[prompt + suffix for prompt in own for suffix in more or ['']]
                       for own, more in zip(prompts, suffixes)]
            extras['knowledge'] = dict(self.knowledge)
        return prompt_vectors(encode, prompts, self.prompt_average).to(self.device), extras

    def classes_of(self, images: Mapping[str, ImageTable]) -> list[str]:
        """The class names of the set.

        Raises:
            ConfigError: if a split is missing.
            DataError: if splits have other classes, or not the two of which ROC AUC is.
        """
        check_splits(images, self.splits, 'images')
        names = {split: list(images[split].class_names) for split in self.splits}
        if names[self.splits[0]] != names['test'] or not names['test']:
            raise DataError(f"'train' and 'test' of {self.set} have other classes: {len(names[self.splits[0]])} and "
                            f"{len(names['test'])}." if names['test'] else f"'test' of {self.set} names no classes.")
        if self.benchmark.metric == 'roc_auc' and len(names['test']) != 2:
            raise DataError(f"{self.set} has {len(names['test'])} classes; its metric roc_auc is of two.")
        return names['test']

    def rows(self, split: str, encoder: nn.Module, data: TaskData) -> SplitRows:
        """The features and labels of a split.

        Raises:
            DataError: for features that are not finite.
        """
        images = data.images[split]
        bank = data.bank[split] if self.reads_bank else self.own_bank(encoder, images, data.storage)
        places = torch.from_numpy(np.flatnonzero(bank.valid))
        features, _ = bank.tensors()
        check_features(features, split)
        labels = labels_of(images)
        return SplitRows(features.to(self.device), [labels[row] for row in places.tolist()], places, len(labels))

    def own_bank(self, encoder: nn.Module, images: ImageTable, storage: Options) -> FeatureBank:
        """The bank of an encoder that is not the runner's, or of images that are brought to the square whole."""
        shown = encoder if self.benchmark.center_crop else squashing(encoder)
        own = dict(root=self.bank_root) if self.bank_root is not None else {}
        return extract(shown, images, device=self.device, num_workers=self.num_workers, **{**storage, **own})

    def targets(self, labels: Sequence[Sequence[int]], num_classes: int, dtype: torch.dtype) -> Tensor:
        """(N,) int64 labels, or (N, C) of 0 and 1."""
        if self.benchmark.is_multi_label:
            return torch.from_numpy(label_vectors(labels, num_classes)).to(self.device, dtype)
        return torch.tensor([own[0] for own in labels], device=self.device)

    def score(self, test: SplitRows, probabilities: Tensor) -> float:
        """The metric of the set on the labelled images.

        Raises:
            DataError: for images of one class alone where the metric needs two, or none with a label.
        """
        kept = [row for row, own in enumerate(test.labels) if own or self.benchmark.is_multi_label]
        if not kept:
            raise DataError(f"'test' of {self.set} has no image with a label.")
        targets = self.targets([test.labels[row] for row in kept], probabilities.shape[1], torch.float64)
        try:
            return score_probabilities(self.benchmark.metric, probabilities[kept].to(self.device), targets)
        except ValueError as error:
            raise DataError(f"'test' of {self.set}: {error}") from error

    def write(self, mode: str, test: SplitRows, probabilities: Tensor, value: float, encoder: nn.Module, data: TaskData,
              *, n_shot: int = 0, seed: int = 0, trainable: int = 0, classifier: int = 0, two_lr: bool = False) -> None:
        """Write the file of predictions and their score, if a folder is given."""
        if self.predictions is None:
            return
        write_predictions(self._work_dir(data), mode, self.benchmark.name, test.in_full(probabilities),
                          model_name=self.model_name or data.encoder_name, n_shot=n_shot, seed=seed,
                          counts=ParameterCounts.of(encoder, classifier, trainable), score=value,
                          metric=self.benchmark.metric, folder=self._folder(mode, n_shot, two_lr),
                          setting=self._setting())

    def check_predictions(self, mode: str, data: TaskData, seeds: Sequence[int] = (0,), *, n_shot: int = 0,
                          two_lr: bool = False) -> None:
        """Refuse to begin what could not be written.

        Raises:
            DataError: if predictions of another model, or made by other options, lie there.
        """
        for seed in seeds if self.predictions is not None else ():
            check_free(self._work_dir(data), self._folder(mode, n_shot, two_lr), self.benchmark.name, seed,
                       model_name=self.model_name or data.encoder_name, setting=self._setting())

    def _work_dir(self, data: TaskData) -> Path:
        return inside(self.predictions, data.encoder_name)

    def _folder(self, mode: str, n_shot: int, two_lr: bool) -> str:
        texts = {key: own for key, own in (self.knowledge or {}).items() if key != 'folder'} if not n_shot else {}
        return mode_folder(mode, n_shot, two_lr=two_lr, **texts)

    def _setting(self) -> str:
        """A digest of what predictions depend on besides model, mode and seed."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NO_SETTING}
        return hashlib.sha256(json.dumps(own, sort_keys=True, default=list).encode()).hexdigest()[:16]


def zero_shot_probabilities(features: Tensor, vectors: Tensor) -> Tensor:
    """(N, C) float64: the softmax of 100 times the cosine (CLIP's own scale, as in the toolkit).

    Raises:
        DataError: for two widths.
    """
    check_width(vectors, features)
    # In whole tiles, so that classes of one vector are equally likely, to the bit, whatever their places.
    cosines = (unit_rows(features) @ unit_rows(vectors.to(features.dtype)).T)[:len(features), :len(vectors)]
    return (100 * cosines.double()).softmax(1)


def labels_of(images: ImageTable) -> list[list[int]]:
    """The class indices of each image, which may be none."""
    if 'labels' in images:
        return [list(own or ()) for own in images['labels'].to_pylist()]
    return [[label] if label >= 0 else [] for label in images.label_array().tolist()]
