"""`clear.Predictor`: a trained checkpoint that is asked for the classes of images, in Python and by `predict.py`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from clear.core.checks import check_number, check_whole
from clear.core.errors import ClearError, ConfigError, DataError
from clear.datasets.images.decode import UnreadableImage, decode_image
from clear.engine import launch
from clear.engine.notebook.calls import arguments, as_file, called
from clear.engine.notebook.views import Picture, Table
from clear.engine.prediction.base import Classifier, Prediction
from clear.engine.prediction.inputs import find_files, read_files
from clear.engine.progress import Progress

if TYPE_CHECKING:
    from clear.engine.prediction.base import Sample

MAX_BAD_FRACTION = 0.01
_SHOWN, _THUMBNAIL = 50, 96
_WAIT_S = 60.0  # for a call of another thread, as a server makes them


class Predictions(list[Prediction]):
    """Predictions in the order of what was asked, and what could not be read.

    Attributes:
        unreadable: path -> reason.
    """

    def __init__(self, predictions: Iterable[Prediction] = (), unreadable: Mapping[str, str] | None = None):
        super().__init__(predictions)
        self.unreadable = dict(unreadable or {})

    def table(self) -> Table:
        """A row for each: path, then class and share of every rank."""
        ranks = max((len(each.labels) for each in self), default=0)
        return Table(columns(ranks), [row_of(each) for each in self])

    def __repr__(self) -> str:
        left_out = [f'{path}: {reason}' for path, reason in self.unreadable.items()]
        return '\n'.join([repr(self.table()), *([f'{len(left_out)} unreadable', *left_out[:10]] if left_out else [])])

    def _repr_html_(self) -> str:
        shown = []
        for each in self[:_SHOWN]:
            scores = '<br>'.join(f'{escape(label)} {score:.3f}' for label, score in zip(each.labels, each.scores))
            picture = _thumbnail(each)
            shown.append(f'<tr><td>{picture._repr_html_() if picture else ""}</td><td>{escape(each.path or "")}</td>'
                         f'<td>{scores}</td></tr>')
        more = f'<p>and {len(self) - _SHOWN} more</p>' if len(self) > _SHOWN else ''
        bad = f'<p>{len(self.unreadable)} unreadable</p>' if self.unreadable else ''
        return f'<table>{"".join(shown)}</table>{more}{bad}'


class Predictor:
    """A trained model, asked for the classes of images or features.

    Args:
        config: of the run: a file, the name of a shipped one, a `Config` or a dict.
        checkpoint: of the run (`latest.pth`, `exp_<i>.pth`), or a file of its model's weights.
        device: 'cpu', 'cuda' ...; None takes a GPU if there is one.
        task: which head answers, of a model with one for each task.
        batch_size: images of one forward pass; None takes that of the config's evaluation.
        max_bad_fraction: share of files that may be unreadable; they are left out and listed.
        options: further keys of the config, see `clear.train`.

    Raises:
        ClearError: what `tools/predict.py` would report.
    """

    def __init__(self, config: str | Path | Mapping, checkpoint: str | Path, device: str | None = None, *,
                 task: int | None = None, batch_size: int | None = None, max_bad_fraction: float = MAX_BAD_FRACTION,
                 **options: object):
        with called():
            args = arguments(config, options, checkpoint=checkpoint, task=task, work_dir=None)
            args.device = device
            with as_file(args):
                cfg = launch.read_run_config(args, 'predict')
            self._set_up(launch.runner_of(cfg).classifier(Path(checkpoint), task), batch_size, max_bad_fraction)

    @classmethod
    def of(cls, classifier: Classifier, batch_size: int | None = None, max_bad_fraction: float = MAX_BAD_FRACTION
           ) -> Predictor:
        """A predictor around a model that is there already."""
        made = cls.__new__(cls)
        made._set_up(classifier, batch_size, max_bad_fraction)
        return made

    def _set_up(self, classifier: Classifier, batch_size: int | None, max_bad_fraction: float) -> None:
        self.classifier = classifier
        self.batch_size = check_whole('batch_size', batch_size if batch_size is not None else classifier.batch_size, 1)
        self.max_bad_fraction = check_number('max_bad_fraction', max_bad_fraction, 0, 1)
        self._names: list[str] | None = None

    def __repr__(self) -> str:
        return f'Predictor({type(self.classifier).__name__} on {self.classifier.device})'

    def __call__(self, images: object, top: int = 3) -> Predictions:
        """The likeliest classes.

        Args:
            images: a file, a folder, a pattern, an image of PIL, an array (H, W, 3) of uint8, a float tensor as the
                model takes it, (C, H, W) or (N, C, H, W), features (D,) or (N, D); or a list of these.
            top: how many classes each.

        Raises:
            ConfigError: for what is none of these, or a missing file.
            DataError: if more than `max_bad_fraction` of the files cannot be read, or probabilities are not finite.
        """
        check_whole('top', top, 1)
        given = list(images) if isinstance(images, (list, tuple)) else [images]
        with called(_WAIT_S):
            if all(isinstance(each, (str, Path)) for each in given):
                return self._of_files(given, top)
            found = Predictions()
            for each in given:
                if isinstance(each, (str, Path)):
                    of_files = self._of_files([each], top)
                    found += of_files
                    found.unreadable |= of_files.unreadable
                else:
                    found += self._in_memory(each, top)
            return found

    def find(self, places: Sequence[str | Path]) -> list[str]:
        """The files that are meant; see `find_files`."""
        return find_files(places, self.classifier.reads_features)

    def stream(self, paths: Sequence[str], top: int = 3) -> Iterator[tuple[list[Prediction], dict[str, str]]]:
        """Predictions of one batch of files after another, and which of the batch cannot be read: path -> reason.

        Raises:
            DataError: when more than `max_bad_fraction` of all files cannot be read.
        """
        progress = Progress(len(paths), unit='files')
        num_bad = 0
        try:
            for batch in read_files(paths, self.classifier.reader, self.batch_size, self.classifier.num_workers):
                bad = {path: reason for path, found, reason in batch if found is None}
                num_bad += len(bad)
                if num_bad > self.max_bad_fraction * len(paths):
                    path, reason = next(iter(bad.items()))
                    raise DataError(f'{num_bad} of {len(paths)} files cannot be read, more than max_bad_fraction = '
                                    f'{self.max_bad_fraction:.1%}. {path} cannot be read as '
                                    f'{"features" if self.classifier.reads_features else "an image"}: {reason}. Raise '
                                    'max_bad_fraction to go on without them.')
                samples = [(name, sample) for path, found, _ in batch if found is not None
                           for name, sample in _named(path, found)]
                yield self._predicted(samples, top), bad
                for _ in batch:
                    progress.step('classified')
        finally:
            progress.close()

    def _of_files(self, places: list[str | Path], top: int) -> Predictions:
        found = Predictions()
        for predictions, bad in self.stream(self.find(places), top):
            found += predictions
            found.unreadable |= bad
        return found

    def _in_memory(self, given: object, top: int) -> list[Prediction]:
        reader = self.classifier.reader
        if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.ndim == 3 and given.shape[2] == 3:
            given = Image.fromarray(given)
        if isinstance(given, Image.Image):
            image = given.convert('RGB')
            try:
                return [Prediction(each.path, each.labels, each.indices, each.scores, image) for each in
                        self._predicted([(None, reader.prepare(image))], top)]
            except UnreadableImage as error:
                raise DataError(f'An image cannot be classified: {error}.') from error
        tensor = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or not 1 <= tensor.ndim <= 4:
            what = (f'{type(given).__name__} of shape {tuple(given.shape)} and {given.dtype}'
                    if isinstance(given, (np.ndarray, torch.Tensor)) else f'{given!r:.80}')
            raise ConfigError(f'{what} is no path, image of PIL, array (H, W, 3) of uint8 or float tensor.')
        rows = tensor if tensor.ndim in (2, 4) else tensor[None]
        return [each for part in rows.float().split(self.batch_size)
                for each in self._predicted([(None, row) for row in part], top)]

    def _predicted(self, samples: Sequence[tuple[str | None, Sample]], top: int) -> list[Prediction]:
        if not samples:
            return []
        scores = self.classifier.scores([sample for _, sample in samples])
        if not scores.isfinite().all():
            raise DataError('The model gives no finite probabilities. Are its weights and its input finite?')
        if self._names is None:
            self._names = self.classifier.class_names(scores.shape[1])
        best = scores.topk(min(top, scores.shape[1]))
        return [Prediction(path, [self._names[index] for index in indices], indices, values)
                for (path, _), values, indices in zip(samples, best.values.tolist(), best.indices.tolist())]


def columns(ranks: int) -> list[str]:
    """The names of a table of predictions."""
    return ['path', *(f'{name}_{rank + 1}' for rank in range(ranks) for name in ('class', 'probability'))]


def row_of(prediction: Prediction) -> list[object]:
    """Its row in such a table."""
    return [prediction.path, *(value for pair in zip(prediction.labels, prediction.scores) for value in pair)]


def _named(path: str, samples: Sequence[Sample] | torch.Tensor) -> Iterator[tuple[str, Sample]]:
    for place, sample in enumerate(samples):
        yield path if len(samples) == 1 else f'{path}[{place}]', sample


def _thumbnail(prediction: Prediction) -> Picture | None:
    """A small picture of what was classified; None where there is none."""
    image = prediction.image
    try:
        if image is None and prediction.path is not None:
            image = decode_image(prediction.path)
    except (UnreadableImage, ClearError, OSError):
        return None  # a file of features, or one that is gone by now
    if image is None:
        return None
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, 'PNG')
    return Picture(prediction.path or 'image', buffer.getvalue())
