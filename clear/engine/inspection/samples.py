"""What a data loader gives: samples as their model sees them, beside the images that they were made of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clear.core.checks import check_choice
from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.engine.prediction.class_names import of_the_data_set
from clear.engine.runners import runner_type
from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from mmengine.config import Config

SPLITS = ('train', 'val', 'test')
# Images in one row of a sheet.
COLUMNS = 8


@dataclass
class ShownSample:
    """A sample: its pictures, each (h, w, 3) in [0, 1], and what stands below them."""

    pictures: list[np.ndarray]
    caption: str


def read_samples(cfg: Config, split: str = 'train', count: int = 16, epoch: int = 0, bucket: str | None = None,
                 with_original: bool = False) -> list[ShownSample]:
    """Some samples of a config, evenly over the data set, with the draws that training has in that epoch, of a stream
    when the bucket of the sample is the newest.

    Args:
        cfg: of a continual run on images or of an ordinary run; checked.
        split: 'train', 'val' or 'test'; a continual run has no 'val'.
        epoch: from 0; random transforms draw anew in each.
        bucket: of a continual run, this one alone.
        with_original: put the decoded image first, where the data set tells it.

    Raises:
        ConfigError: for data that are no images, or a split or bucket that the config has not.
    """
    kind = runner_type(cfg)
    if count < 1 or epoch < 0:
        raise ConfigError(f'{count} samples of epoch {epoch}: expected at least one, and an epoch from 0.')
    if kind == 'ContinualRunner':
        return list(_of_stream(cfg, split, count, epoch, bucket, with_original))
    if kind not in ('Runner', 'StreamRunner'):
        raise ConfigError(f'A {kind} has no loader of training images.')
    if bucket is not None:
        raise ConfigError('--bucket is for continual runs.')
    return _of_run(cfg, split, count, epoch, with_original)


def _of_stream(cfg: Config, split: str, count: int, epoch: int, bucket: str | None, with_original: bool
               ) -> Iterator[ShownSample]:
    from clear.continual.scenarios import build_scenario
    from clear.continual.training.traits import trait
    from clear.datasets import BucketDataset
    from clear.registry import STRATEGIES

    if split == 'val':
        raise ConfigError('A continual run has training and test images; say train or test.')
    if not cfg['scenario'].get('eval_transform') and cfg['scenario'].get('type') == 'CLEAR':
        raise ConfigError('The config trains on stored features; there are no images to look at.')
    info = build_scenario(cfg['scenario']).info
    names = info.bucket_names if split == 'train' else info.column_names
    if bucket is not None:
        check_choice('--bucket', bucket, names)
    info.context.seed, info.context.epoch = cfg.get('seed', 0) or 0, epoch
    is_joint = trait(STRATEGIES.require(cfg['cl_strategy']['type']), 'is_joint')
    datasets = getattr(info, split)
    scale = _normalisation(cfg['scenario'].get('train_transform' if split == 'train' else 'eval_transform'))
    rows = [(index, row) for index, name in enumerate(names) if bucket in (None, name)
            for row in range(len(datasets[index]))]
    for index, row in _evenly(rows, count):
        data = datasets[index]
        info.context.experience = 0 if is_joint else index  # draws are those of when its bucket is trained
        image, target = data[row]
        if not isinstance(image, Tensor) or image.ndim != 3:
            raise ConfigError('The config trains on stored features; there are no images to look at.')
        original = [_as_array(data.image(row))] if with_original and isinstance(data, BucketDataset) else []
        yield ShownSample([*original, _picture(image, scale)], f'{names[index]}: {info.class_names[int(target)]}')


def _of_run(cfg: Config, split: str, count: int, epoch: int, with_original: bool) -> list[ShownSample]:
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner as MMRunner

    import clear.datasets  # noqa: F401  (its classes by name)
    from clear.engine.training.loading import build_train_dataloader

    loader_cfg = cfg.get(f'{split}_dataloader')
    if loader_cfg is None:
        raise ConfigError(f'The config has no {split}_dataloader.')
    seed = cfg.get('seed', 0) or 0
    with building(f'{split}_dataloader'), DefaultScope.overwrite_default_scope('clear'):
        dataset = (build_train_dataloader(loader_cfg, seed) if split == 'train'
                   else MMRunner.build_dataloader(loader_cfg, seed=seed)).dataset
    options = cfg.get('data_preprocessor') or (cfg.get('model') or {}).get('data_preprocessor') or {}
    rows = _evenly(range(len(dataset)), count)
    samples = [dataset[epoch, row] if split == 'train' else dataset[row] for row in rows]
    if 'seeds' in samples[0]:  # whole images, of which the preprocessor makes views
        originals = [_picture(sample['inputs'], None) for sample in samples]
        views = _made_views(options, samples)
    else:
        originals = [_file_of(dataset, row) for row in rows]
        views = [_views(sample) for sample in samples]
    scale = _normalisation(loader_cfg) or _normalisation(options) or _of_recipes(loader_cfg, options)
    # mmpretrain's loading gives BGR, and its preprocessor turns it round.
    is_bgr = options.get('to_rgb', False)
    shown = []
    for row, sample, original, each in zip(rows, samples, originals, views):
        pictures = [_picture(view.flip(0) if is_bgr and view.dtype == torch.uint8 else view, scale) for view in each]
        first = [original] if with_original and original is not None else []
        shown.append(ShownSample([*first, *pictures], _caption(sample, dataset, row)))
    return shown


def _made_views(options: Mapping, samples: Sequence[Mapping[str, Tensor]]) -> list[list[Tensor]]:
    from clear.registry import MODELS

    if options.get('views') is None:
        return [[sample['inputs']] for sample in samples]
    with building('data_preprocessor'):
        preprocessor = MODELS.build(dict(options))
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in ('inputs', 'seeds')}
    made = preprocessor(batch, training=True)['inputs']
    return [[view[number] for view in made] for number in range(len(samples))]


def _views(sample: object) -> list[Tensor]:
    inputs = sample.get('inputs') if isinstance(sample, Mapping) else None
    views = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if not all(isinstance(view, Tensor) and view.ndim == 3 for view in views):
        raise ConfigError('The samples hold no images under `inputs`; there is nothing to look at.')
    return views


def _file_of(dataset: object, row: int) -> np.ndarray | None:
    """The file that a sample was read from, where the data set says which (mmengine's `get_data_info`)."""
    from clear.datasets.images.decode import UnreadableImage, decode_image

    if not hasattr(dataset, 'get_data_info'):
        return None
    path = dataset.get_data_info(row).get('img_path')
    try:
        return None if path is None else _as_array(decode_image(path))
    except (UnreadableImage, OSError):
        return None  # in an archive, or behind a client of files


def _caption(sample: Mapping, dataset: object, row: int) -> str:
    if 'captions' in sample:
        return str(sample['captions'])
    label = getattr(sample.get('data_samples'), 'gt_label', None)
    if label is None:
        return f'sample {row}'
    names = of_the_data_set(dataset)
    return ', '.join(names[each] if each < len(names) else str(each) for each in label.reshape(-1).tolist())


def _evenly(rows: Sequence, count: int) -> list:
    """At most `count` of them, as evenly spread as can be."""
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def _normalisation(options: object) -> tuple[Tensor, Tensor] | None:
    """The first `mean` and `std` in a part of a config, the innermost if it is nested; for values in [0, 1]."""
    if isinstance(options, Mapping):
        for value in options.values():
            if (found := _normalisation(value)) is not None:
                return found
        mean, std = options.get('mean'), options.get('std')
        if mean is None or std is None:
            return None
        mean, std = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (mean, std))
        return (mean / 255, std / 255) if float(mean.max()) > 2 else (mean, std)
    if isinstance(options, (list, tuple)):
        return next((found for value in options if (found := _normalisation(value)) is not None), None)
    return None


def _of_recipes(*options: Mapping) -> tuple[Tensor, Tensor] | None:
    """The normalisation that our multi-crops have if the config names none."""
    from clear.datasets.transforms.multi_crop import IMAGENET_MEAN, IMAGENET_STD

    if 'MultiCrop' not in str(options):
        return None
    return tuple(torch.tensor(value).reshape(-1, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))


def _picture(image: Tensor, scale: tuple[Tensor, Tensor] | None) -> np.ndarray:
    """(C, h, w) as (h, w, 3) in [0, 1]; values of an unknown normalisation are stretched from least to most."""
    if image.dtype == torch.uint8:
        image = image / 255
    elif scale is not None:
        image = image * scale[1] + scale[0]
    elif image.min() < 0 or image.max() > 1:
        image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-6)
    image = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return image.detach().float().clamp(0, 1).permute(1, 2, 0).numpy()


def _as_array(image: object) -> np.ndarray:
    import numpy as np

    return np.asarray(image.convert('RGB')) / 255


def samples_figure(samples: Sequence[ShownSample], title: str, subtitle: str) -> Figure:
    """A sheet: one sample after the other, its pictures side by side, its caption above them."""
    widest = max(len(sample.pictures) for sample in samples)
    across = max(1, COLUMNS // widest)
    lines = -(-len(samples) // across)
    longest = max(len(sample.caption) for sample in samples)
    text = 0.12 * min(4, -(-longest // (18 * widest)))
    figure = new_figure(1.3 * across * widest + 0.5, (1.5 + text) * lines + 0.8, title, subtitle)
    panels = figure.subplots(lines, across * widest, squeeze=False)
    for panel in panels.flat:
        panel.axis('off')
    for number, sample in enumerate(samples):
        line, place = divmod(number, across)
        for column, picture in enumerate(sample.pictures):
            panel = panels[line, place * widest + column]
            panel.imshow(picture, interpolation='nearest')
            if column == 0:
                caption = textwrap.fill(plain_text(sample.caption, 60 * widest), 18 * widest)
                panel.set_title(caption, fontsize=7, loc='left')
    return figure
