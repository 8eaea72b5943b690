"""An aligned pair of towers as an encoder of images, with text beside it: from a config, or from a finished run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clear.core.checks import check_flag, check_text
from clear.core.configs.signatures import check_keys
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.core.storage.damage import TENSORS, check_shape
from clear.models.alignment.image_text import ImageTextAlignment
from clear.models.alignment.pair import TowerPair
from clear.models.alignment.weight_averages import check_wise_ft, interpolate
from clear.models.selfsup.parts.encoder import build_part
from clear.models.towers.base import Tower, plain
from clear.models.weights import local_weights
from clear.models.weights.load import LoadReport
from clear.registry import MODELS

# Names of the checkpoints of a run, without `.pth`.
_CHECKPOINT = re.compile(r'best|latest|(?:epoch|iter)_\d+')
# How mmengine's EMAHook calls the weights that trained, once it has put their average in their place.
_TRAINED = 'module.'


@MODELS.register_module()
class AlignedEncoder(TowerPair):
    """The image side of an `ImageTextAlignment`, head included; `encode_text` is the text side. Frozen.

    Args:
        model: the `model` of the training config.
        weights: a checkpoint of that training or its address, or `dict(path=...)`; None leaves the towers as their own
            configs make them.
        wise_ft: share of those weights in an average with others, 1 by default (WiSE-FT, Wortsman et al. 2022,
            arXiv:2109.01903). The others are what the towers' configs load, and heads as they are drawn.
        start_weights: a checkpoint to take these others from.

    Raises:
        ConfigError: if `model` is no alignment, or `wise_ft` has no `weights` or is not in 0 ... 1.
        CheckpointError: if the checkpoint is of another model.
    """

    model: ImageTextAlignment

    def __init__(self, model: Mapping | ImageTextAlignment, weights: str | Path | Mapping | None = None, *,
                 wise_ft: float | None = None, start_weights: str | Path | None = None):
        sha256 = None
        if isinstance(weights, Mapping):
            check_keys('AlignedEncoder.weights', weights, {'path', 'sha256'}, 'weights')
            weights, sha256 = weights.get('path'), weights.get('sha256')
        check_wise_ft('AlignedEncoder: wise_ft', wise_ft)
        if wise_ft is not None and weights is None:
            raise ConfigError('AlignedEncoder: wise_ft is an average of two weights: give the trained ones as weights.')
        if start_weights is not None and wise_ft is None:
            raise ConfigError('AlignedEncoder: start_weights are for an average: give wise_ft, the share of weights.')
        built = _built(model)
        if start_weights is not None:
            _load(built, local_weights(start_weights))
        start = {name: value.clone() for name, value in built.state_dict().items()} if wise_ft is not None else {}
        report = None if weights is None else _load(built, local_weights(weights, sha256))
        if wise_ft is not None:
            built.load_state_dict(interpolate(start, built.state_dict(), wise_ft))
        self._become(built, {} if isinstance(model, ImageTextAlignment) else model)
        self.load_report = report

    def _become(self, built: ImageTextAlignment, described: Mapping) -> None:
        Tower.__init__(self)
        self._take(built)
        self._identity = dict(model=plain(_without_paths(described), 'model'), preprocess=self.preprocess.to_dict())


@MODELS.register_module()
class AlignedRun(AlignedEncoder):
    """The encoder that a finished (or running) alignment has trained, by the folder of its run.

    Model and weights come from one checkpoint, which holds the config that it was trained with. Files that the towers'
    own configs name (weights to begin with, a folder of transformers) must still be there.

    Args:
        run: the work_dir; of a run over buckets that of one bucket, `work_dirs/x/bucket_3`.
        checkpoint: `'latest'`, `'best'`, `'epoch_12'`, `'iter_400'`, or a file.
        ema: of a run with an `EMAHook`, True for the average, False for the weights that trained. None is what the
            checkpoint holds as its model, as `tools/test.py` measures it: the average where there is one.

    Raises:
        CheckpointError: if there is no such run or checkpoint, or it is of another kind of run.
        ConfigError: for `ema` where the run has no average.
    """

    def __init__(self, run: str | Path, checkpoint: str | Path = 'latest', *, ema: bool | None = None):
        if ema is not None:
            check_flag('ema', ema)
        path = run_checkpoint(run, checkpoint)
        saved = load_tensors(path)
        if not isinstance(saved, Mapping) or not isinstance(saved.get('config'), Mapping):
            raise CheckpointError(f'{path} is no checkpoint of a run of ours: it holds no config. Weights of other '
                                  "origin go into dict(type='AlignedEncoder', model=..., weights=FILE).")
        check_shape(path, saved, dict(state_dict=TENSORS, config=dict(model=dict)))
        cfg = saved['config']['model']
        kind = MODELS.require(cfg['type']) if isinstance(cfg.get('type'), str) else None
        if not (isinstance(kind, type) and issubclass(kind, ImageTextAlignment)):
            raise CheckpointError(f'{path} is of a run that trained {cfg.get("type") or "a classifier"}, no alignment '
                                  'of images and text. Name its backbone as an encoder: dict(type=..., weights=FILE).')
        built = _built(cfg)
        report = _load_state(built, _weights(path, saved, ema), path)
        self._become(built, cfg)
        self.load_report = report


def run_checkpoint(run: str | Path, checkpoint: str | Path) -> Path:
    """The file that a run and the name of a checkpoint mean.

    Raises:
        CheckpointError: if there is no such run or checkpoint; the message lists those there are.
        ConfigError: for what is no name of either.
    """
    folder = Path(check_text('run', str(run)))
    if not folder.is_dir():
        raise CheckpointError(f'run: there is no folder {folder}.')
    name = str(checkpoint)
    stem = name.removesuffix('.pth')
    # A bare name is one of the run, also with its suffix: a file of that name may lie in the current folder, too.
    path = folder / f'{stem}.pth' if _CHECKPOINT.fullmatch(stem) else Path(name)
    if path.is_file():
        return path
    found = sorted(each.stem for each in folder.glob('*.pth') if _CHECKPOINT.fullmatch(each.stem))
    buckets = sorted(each.name for each in folder.glob('bucket_*') if each.is_dir())
    has = f'it has {", ".join(found)}' if found else 'it has none' + (
        f"; it is a run over buckets, name one: run='{folder / buckets[-1]}'" if buckets else '')
    raise CheckpointError(f"run {folder} has no checkpoint '{name}'; {has}.")


def _weights(path: Path, saved: Mapping, ema: bool | None) -> Mapping[str, Tensor]:
    state = saved['state_dict']
    if ema is not None and 'ema_state_dict' not in saved:
        raise ConfigError(f'ema={ema}: the run of {path} keeps no average of its weights. Leave the key out.')
    if ema is not False:
        return state
    check_shape(path, saved, dict(ema_state_dict=TENSORS))
    trained = {name.removeprefix(_TRAINED): value for name, value in saved['ema_state_dict'].items()
               if name.startswith(_TRAINED)}
    return {**state, **trained}


def _built(model: Mapping | ImageTextAlignment) -> ImageTextAlignment:
    built = build_part('model', model)
    if not isinstance(built, ImageTextAlignment):
        raise ConfigError(f"model is a {type(built).__name__}, expected dict(type='ImageTextAlignment', ...).")
    return built


def _load(model: ImageTextAlignment, path: Path) -> LoadReport:
    saved = load_tensors(path)
    return _load_state(model, saved.get('state_dict', saved) if isinstance(saved, Mapping) else saved, path)


def _load_state(model: ImageTextAlignment, state: Mapping[str, Tensor], path: Path) -> LoadReport:
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path} is no checkpoint of this model: {error}') from error
    return LoadReport(path.name, 'clear', tuple(state), (), (), ())


def _without_paths(cfg: Mapping) -> dict:
    """A config in which files and folders are named by the last part of their names."""
    return {key: _without_paths(value) if isinstance(value, Mapping) else
            Path(value).name if isinstance(value, (str, Path)) and '/' in str(value) else value
            for key, value in cfg.items()}
