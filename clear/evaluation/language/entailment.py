"""Does an image entail a sentence? A classifier that learns from texts alone and is asked about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_number, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.readers.pairs.snli_ve import LABELS, Entailment, entailment_file, read_entailment
from clear.evaluation.image.rows import check_splits, features_by_id, seed_list
from clear.evaluation.language.prompts import check_width
from clear.evaluation.task import TaskData, TaskResult, seed_extras
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint
from clear.registry import TASKS

# What our splits are called there.
_SPLITS = dict(train='train', val='dev', test='test')
_ROWS_PER_BLOCK = 8192


@dataclass(frozen=True)
class Pairs:
    """Premises and hypotheses of unit length, each once, and which belong together.

    Attributes:
        premises: (P, D); hypotheses: (H, D).
        premise_rows, hypothesis_rows: (N,), labels: (N,), indices in `LABELS`.
    """

    premises: Tensor
    premise_rows: Tensor
    hypotheses: Tensor
    hypothesis_rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def fused(self, rows: Tensor) -> Tensor:
        """(B, 5 D) of some pairs."""
        return fuse(self.premises[self.premise_rows[rows]], self.hypotheses[self.hypothesis_rows[rows]])


@TASKS.register_module()
class VisualEntailment:
    """Zero-shot transfer from text to images on SNLI-VE (Xie et al. 2019, arXiv:1901.06706), as Song et al. 2022
    (arXiv:2203.07190, section 3.3) do it.

    A small network learns from premises as texts, captions, whether they entail a hypothesis, contradict it, or
    neither; then images take the place of captions. Towers stay as they are. Learning rate and epoch are those of the
    best accuracy on the pairs of 'dev', which are texts too: no image is seen before the test. The value is `accuracy`
    on 'test'; `text_accuracy` is that with captions in place of the images, and each label has its recall. Pairs
    without a label (`-`) and pairs whose image could not be read are left out and counted.

    Images are found by their id in the bank of 'test', a source of type `SNLIVE` for one. What of the paper could not
    be confirmed is in docs/vqa.md.

    Args:
        root: folder of `snli_ve_{train,dev,test}.jsonl`.
        hidden_dim: of the network, one hidden layer.
        dropout: before its last layer.
        lrs: to choose from; AdamW.
        seeds: how many networks, or a list of seeds; the metrics are means.

    Raises:
        ConfigError: for numbers out of range.
    """

    needs: ClassVar = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)

    def __init__(self, root: str, *, hidden_dim: int = 512, dropout: float = 0.1,
                 lrs: Sequence[float] = (1e-4, 3e-4, 1e-3), weight_decay: float = 1e-4, epochs: int = 10,
                 batch_size: int = 256, seeds: int | Sequence[int] = 1, seed: int = 0, device: str = 'cpu'):
        self.root = Path(check_text('root', root))
        if not isinstance(lrs, (list, tuple)) or not lrs:
            raise ConfigError(f'lrs is {lrs!r}; expected a list such as [1e-4, 1e-3].')
        self.lrs = [check_number('lrs', lr, above=0) for lr in lrs]
        self.options = dict(hidden_dim=check_whole('hidden_dim', hidden_dim, 1),
                            epochs=check_whole('epochs', epochs, 1),
                            dropout=check_number('dropout', dropout, 0, below=1),
                            weight_decay=check_number('weight_decay', weight_decay, 0),
                            batch_size=check_whole('batch_size', batch_size, 1))
        self.seeds, self.device = seed_list(seeds, seed), device

    def files_fingerprint(self) -> str:
        """Of the three files.

        Raises:
            DataError: if one cannot be read.
        """
        return files_fingerprint([entailment_file(self.root, name) for name in _SPLITS.values()])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Learn from texts and measure on the images of 'test'.

        Raises:
            ConfigError: for an encoder without text, or a bank that does not know its images by id.
            DataError: for files that are not what they should be, images that the bank does not have, a label without
                pairs, or embeddings of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = TextReader(encoder, type(self).__name__)
        read = {split: read_entailment(self.root, name) for split, name in _SPLITS.items()}
        kept = {split: [pair for pair in pairs if pair.label >= 0] for split, pairs in read.items()}
        unlabelled = {split: len(read[split]) - len(kept[split]) for split in read}
        names = list(dict.fromkeys(pair.image for pair in kept['test']))
        features, is_there = features_by_id(data.bank['test'], names)
        places = {name: place for place, name in enumerate(
            name for name, there in zip(names, is_there.tolist()) if there)}
        labelled = len(kept['test'])
        kept['test'] = [pair for pair in kept['test'] if pair.image in places]
        for split, pairs in kept.items():
            missing = {*range(len(LABELS))} - {pair.label for pair in pairs}
            if not pairs or missing and split == 'train':
                raise DataError(f"{entailment_file(self.root, _SPLITS[split])}: no pair of the label "
                                f"'{LABELS[min(missing)]}' is left.")
        texts = {split: _text_pairs(pairs, encode, self.device) for split, pairs in kept.items()}
        check_width(texts['test'].hypotheses, features)
        shown = replace(texts['test'], premises=functional.normalize(features.to(self.device), dim=1),
                        premise_rows=torch.tensor([places[pair.image] for pair in kept['test']], device=self.device))
        return self._measured(texts, shown, dict(unlabelled=unlabelled, unreadable=labelled - len(kept['test']),
                                                 **encode.extras()))

    def _measured(self, texts: dict[str, Pairs], shown: Pairs, extras: dict[str, object]) -> TaskResult:
        """The metrics of every seed, and how the first of them was chosen."""
        per_seed, settings, confusion = {}, [], torch.zeros(len(LABELS), len(LABELS), dtype=torch.int64)
        for seed in self.seeds:
            fits = [train_classifier(texts['train'], texts['val'], lr=lr, seed=seed, **self.options) for lr in self.lrs]
            best = max(fits, key=lambda fit: fit.val_accuracy)  # the first of equally good ones
            predicted = predict(best.network, shown)
            recalls = {name: float((predicted[shown.labels == label] == label).double().mean())
                       for label, name in enumerate(LABELS) if (shown.labels == label).any()}
            per_seed[seed] = dict(accuracy=accuracy(predicted, shown.labels), **recalls,
                                  text_accuracy=accuracy(predict(best.network, texts['test']), texts['test'].labels))
            confusion.view(-1).index_add_(0, (shown.labels * len(LABELS) + predicted).cpu(),
                                          torch.ones(len(shown), dtype=torch.int64))
            settings.append([dict(lr=lr, epoch=fit.epoch, val_accuracy=fit.val_accuracy)
                             for lr, fit in zip(self.lrs, fits)])
        chosen = max(settings[0], key=lambda point: point['val_accuracy'])
        found = seed_extras(per_seed)
        return TaskResult('accuracy', found['metrics']['accuracy'], True, dict(
            **found, n_train=len(texts['train']), n_val=len(texts['val']), n_test=len(shown), selected=chosen,
            settings=settings[0], **extras,
            figure_data={'labels': dict(kind='confusion', matrix=confusion.tolist(), names=list(LABELS))}))


@dataclass(frozen=True)
class Fit:
    """A trained network at its best epoch, counted from 1, on validation."""

    network: nn.Module
    val_accuracy: float
    epoch: int


def fuse(premises: Tensor, hypotheses: Tensor) -> Tensor:
    """(N, D) and (N, D) -> (N, 5 D): both, their sum, difference and product."""
    return torch.cat([premises, hypotheses, premises + hypotheses, premises - hypotheses, premises * hypotheses], 1)


def train_classifier(train: Pairs, val: Pairs, *, hidden_dim: int = 512, dropout: float = 0.1, lr: float = 1e-3,
                     weight_decay: float = 1e-4, epochs: int = 10, batch_size: int = 256, seed: int = 0) -> Fit:
    """One hidden layer on fused pairs, by AdamW and cross entropy; the weights of the best epoch on `val`, the first
    of equally good ones.
    """
    device, width = train.labels.device, 5 * train.premises.shape[1]
    with seeded_draws(derive_seed(seed, 'entailment')):
        network = nn.Sequential(nn.Linear(width, hidden_dim), nn.ReLU(), nn.Dropout(dropout),
                                nn.Linear(hidden_dim, len(LABELS))).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
        best, best_epoch, state = -1.0, 0, {}
        for epoch in range(1, epochs + 1):
            network.train()
            for rows in torch.randperm(len(train)).to(device).split(batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(network(train.fused(rows)), train.labels[rows]).backward()
                optimizer.step()
            found = accuracy(predict(network, val), val.labels)
            if found > best:
                best, best_epoch = found, epoch
                state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    return Fit(network.eval(), best, best_epoch)


@torch.no_grad()
def predict(network: nn.Module, pairs: Pairs) -> Tensor:
    """(N,) the likeliest label of each pair."""
    network.eval()
    blocks = torch.arange(len(pairs), device=pairs.labels.device).split(_ROWS_PER_BLOCK)
    return torch.cat([network(pairs.fused(rows)).argmax(1) for rows in blocks])


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of the labels that are found."""
    return float((predicted == labels).double().mean())


def _text_pairs(pairs: Sequence[Entailment], encode: TextReader, device: str) -> Pairs:
    """Pairs of two texts."""
    found: dict[str, Tensor] = {}
    for name, texts in (('premise', [pair.premise for pair in pairs]),
                        ('hypothesis', [pair.hypothesis for pair in pairs])):
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        found[name] = functional.normalize(encode(list(rows)), dim=1).to(device)
        found[f'{name}_rows'] = torch.tensor([rows[text] for text in texts], device=device)
    return Pairs(found['premise'], found['premise_rows'], found['hypothesis'], found['hypothesis_rows'],
                 torch.tensor([pair.label for pair in pairs], device=device))
