"""Avalanche's classic benchmarks by name: built by its factories, read by our data sets.

The factories decide which sample belongs to which experience; transforms, draws, caches and bad samples are ours, so
that a run repeats and resumes exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch.utils.data import Dataset

from clear.continual.scenarios.base import ScenarioInfo, make_benchmark
from clear.continual.scenarios.bucket_images import bad_sample_list
from clear.continual.scenarios.classic_images import ExperienceImages, as_block, draws_nothing
from clear.continual.scenarios.classic_repairs import (
    DownloadRefused,
    remove_empty_folders,
    repaired,
    without_network,
)
from clear.core import dist
from clear.core.checks import check_choice
from clear.core.configs.signatures import check_keys
from clear.core.errors import ClearError, ConfigError, DataError
from clear.datasets.transforms import build_transform

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset

    from clear.core.types import Options

Sample = TypeVar('Sample')

MODULE = 'avalanche.benchmarks.classic'


@dataclass(frozen=True)
class Classic:
    """Where a benchmark's factory is, and the folder of its data below Avalanche's own (None: the config must say)."""

    folder: str | None
    module: str = MODULE
    roots: tuple[str, ...] = ('dataset_root',)


CLASSICS: dict[str, Classic] = {
    'SplitMNIST': Classic('mnist'), 'PermutedMNIST': Classic('mnist'), 'RotatedMNIST': Classic('mnist'),
    'SplitFMNIST': Classic('fashionmnist'), 'SplitCIFAR10': Classic('cifar10'), 'SplitCIFAR100': Classic('cifar100'),
    'SplitCIFAR110': Classic('cifar', roots=('dataset_root_cifar10', 'dataset_root_cifar100')),
    'SplitCUB200': Classic('CUB_200_2011'), 'SplitTinyImageNet': Classic('tinyimagenet'),
    'SplitImageNet': Classic(None), 'SplitInaturalist': Classic('inatuarlist2018'),
    'SplitOmniglot': Classic('omniglot'), 'SplitAlphabetOmniglot': Classic('omniglot', f'{MODULE}.comniglot'),
    'CORe50': Classic('core50'), 'OpenLORIS': Classic('openloris'), 'CLStream51': Classic('stream51'),
    'EndlessCLSim': Classic('endless-cl-sim')}
_EXPERTS = 'its experiences hold expert models in place of images: there is nothing to train a classifier on'
_LATER = 'it came after avalanche-lib 0.6.0. Its images can be read with FolderByTime or TableByTime'
REFUSED: dict[str, str] = {
    'ExMLMNIST': _EXPERTS, 'ExMLCIFAR10': _EXPERTS, 'ExMLCoRE50': _EXPERTS,
    'CTrL': 'its factory takes no transforms, and downloads the data sets that it is made of',
    'ConConDisjoint': _LATER, 'ConConStrict': _LATER, 'ConConUnconfounded': _LATER,
    'CLEARMetric': 'it is a metric, no benchmark', 'check_experts_accuracy': 'it is a check, no benchmark'}
# Ours in place of the factory's: transforms, folder, download; and what runs of ours have.
OWN_KEYS = {'train_transform', 'eval_transform', 'data_root', 'download', 'cache', 'max_bad_fraction'}


def classic_arguments(name: str) -> set[str]:
    """The keys of `scenario=dict(type=name, ...)`.

    Raises:
        ConfigError: if the benchmark cannot be trained on here, with the reason.
    """
    parameters = set(inspect.signature(_factory(name)).parameters)
    return (parameters - set(CLASSICS[name].roots) - {'save_to_disk', 'path'}) | OWN_KEYS


def classic_benchmark(name: str, *, data_root: str | None = None, download: bool = False,
                      train_transform: list[dict] | None = None, eval_transform: list[dict] | None = None,
                      cache: str | None = None, max_bad_fraction: float = 0.01, work_dir: str | None = None,
                      **options: object):
    """Build a classic as a benchmark of ours; `benchmark.info` is its `ScenarioInfo`.

    The protocol follows from the classes: 'class-incremental' if no two experiences share one (tests are then the
    images of each experience's own classes, also where Avalanche has one test set, or one that grows),
    'domain-incremental' if they do and each has a test set, 'one-test-set' if there is one for all.

    Args:
        name: one of `CLASSICS`.
        data_root: where the data are; None means Avalanche's folder, `~/.avalanche/data/<data set>`.
        download: let Avalanche fetch what is missing.
        train_transform, eval_transform: transform dicts; None takes the factory's own transforms.
        cache: 'ram' keeps the results of a transform that draws nothing as tensors.
        max_bad_fraction, work_dir: as for CLEAR.
        options: arguments of Avalanche's factory. `seed` is 0 where the factory would draw one.

    Raises:
        ConfigError: for a benchmark that does not fit, or arguments that its factory refuses.
        DataError: if the data are not there, naming the folder.
    """
    check_keys('scenario', options, classic_arguments(name) - OWN_KEYS, name)
    check_choice('scenario.cache', cache, (None, 'ram'))
    if options.get('semseg'):
        raise ConfigError('EndlessCLSim with semseg=True labels pixels; models here classify whole images.')
    transforms = [_transform(name, key, given) for key, given in
                  (('train_transform', train_transform), ('eval_transform', eval_transform))]
    root = _data_root(name, data_root)
    built = _build(name, root, download, options)
    train = [experience.dataset for experience in built.train_stream]
    protocol, train_rows, test = _divide(name, train, [experience.dataset for experience in built.test_stream])
    labels = [experience.task_labels[0] for experience in built.train_stream]
    info = ScenarioInfo(class_names=_class_names(train, test, options), bucket_names=_names(train, protocol),
                        protocol=protocol, fingerprint='', train=[], test=[],
                        test_names=['test'] if protocol == 'one-test-set' else None)
    info.bad_samples = bad_sample_list(work_dir, train_rows, [rows for _, rows in test], max_bad_fraction)
    for part, transform, is_train, datasets in ((list(zip(train, train_rows)), transforms[0], True, info.train),
                                                (test, transforms[1], False, info.test)):
        for place, (data, rows) in enumerate(part):
            images = ExperienceImages(data, rows, str(place), transform, is_train=is_train, context=info.context,
                                      bad_samples=info.bad_samples)
            datasets.append(as_block(images) if cache == 'ram' and draws_nothing(transform) else images)
    info.fingerprint = _fingerprint(name, options, info)
    if options.get('return_task_id') and len(test) == len(labels):
        info.task_labels = list(labels)
    return make_benchmark(info, labels, labels if len(test) == len(labels) else labels[-1:])


def _factory(name: str) -> Callable:
    if name in REFUSED:
        raise ConfigError(f'scenario.type {name} cannot be trained on here: {REFUSED[name]}.')
    return getattr(importlib.import_module(CLASSICS[name].module), name)


def _transform(name: str, key: str, given: list[dict] | None) -> Callable:
    if given is not None:
        return build_transform(given, f'scenario.{key}')
    default = inspect.signature(_factory(name)).parameters[key].default
    if not callable(default):
        raise ConfigError(f'scenario.{key} is needed: {name} has no transform of its own.')
    return default


def _data_root(name: str, data_root: str | None) -> Path:
    from avalanche.benchmarks.datasets import default_dataset_location

    folder = CLASSICS[name].folder
    if data_root is None and folder is None:
        raise ConfigError(f'scenario.data_root is needed: Avalanche has no place of its own for the data of {name}.')
    return Path(data_root) if data_root is not None else Path(default_dataset_location(folder))


def _raw(sample: Sample) -> Sample:
    """The sample as it is. (Some of Avalanche's data sets call their transform without asking whether there is one.)"""
    return sample


def _build(name: str, root: Path, download: bool, options: Options):
    """Avalanche's benchmark without transforms.

    Raises:
        ConfigError, DataError: as `classic_benchmark` does.
    """
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    arguments = dict(options, train_transform=_raw, eval_transform=_raw)
    arguments.update((key, str(root)) for key in CLASSICS[name].roots)
    if 'seed' in parameters and options.get('seed') is None and parameters['seed'].default is None:
        arguments['seed'] = 0
    if 'download' in parameters:
        arguments['download'] = download
    if download and not dist.is_main():
        dist.barrier()  # the main process fetches, the others find it there
    try:
        with repaired(), (contextlib.nullcontext() if download else without_network()):
            benchmark = factory(**arguments)
    except ClearError:
        raise
    except ImportError as error:
        raise ConfigError(f'{name} needs a package that is not installed: {error}.') from error
    except DownloadRefused as error:
        remove_empty_folders(str(root))
        raise DataError(_missing(name, root)) from error
    except OSError as error:
        raise DataError(f'{_missing(name, root)} ({type(error).__name__}: {error})') from error
    except RuntimeError as error:
        raise DataError(f'{_missing(name, root)} ({str(error).partition(chr(10))[0]})') from error
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise ConfigError(f'scenario ({name}): {error}') from error
    if download and dist.is_main():
        dist.barrier()
    return benchmark


def _missing(name: str, root: Path) -> str:
    return (f'The data of {name} are not, or not whole, in {root}. Set scenario.data_root to where they are, or '
            'scenario.download=True to let Avalanche fetch them there.')


def _divide(name: str, train: list, test: list
           ) -> tuple[str, list[list[int]], list[tuple[AvalancheDataset, list[int]]]]:
    """The protocol, rows of each training experience, and (data, rows) of each test set."""
    rows = [list(range(len(data))) for data in train]
    classes = [set(map(int, data.targets)) for data in train]
    if len(test) not in (1, len(train)):
        raise ConfigError(f'{name} has {len(train)} training experiences and {len(test)} test sets; that gives no '
                          'accuracy matrix.')
    if len(train) > 1 and sum(map(len, classes)) == len(set().union(*classes)):
        sources = test if len(test) == len(train) else test * len(train)
        parts = [(data, [row for row, target in enumerate(data.targets) if int(target) in own])
                 for data, own in zip(sources, classes)]
        protocol = 'class-incremental'
    else:
        parts = [(data, list(range(len(data)))) for data in test]
        protocol = 'domain-incremental' if len(test) == len(train) else 'one-test-set'
    for place, (_, chosen) in enumerate(parts):
        if not chosen:
            raise DataError(f'{name}: experience {place} has no test images.')
    return protocol, rows, parts


def _class_names(train: list, test: list[tuple[AvalancheDataset, list[int]]], options: Options) -> list[str]:
    """The data set's own names where ids were not changed, else the ids."""
    size = 1 + max(int(target) for data in [*train, *(data for data, _ in test)] for target in data.targets)
    names = getattr(_bottom(train[0]), 'classes', None)
    is_changed = any(value for key, value in options.items() if key.startswith('class_ids_from_zero'))
    if not is_changed and isinstance(names, (list, tuple)) and len(names) == size:
        return [str(name) for name in names]
    return [str(label) for label in range(size)]


def _bottom(data: object) -> Dataset | None:
    """The data set that Avalanche's first wrapper lies on, while there is one below each."""
    while hasattr(data, '_flat_data') or hasattr(data, '_datasets'):
        inner = data._flat_data if hasattr(data, '_flat_data') else data._datasets
        if isinstance(inner, list):
            if len(inner) != 1:
                return None
            inner = inner[0]
        data = inner
    return data


def _names(train: list, protocol: str) -> list[str]:
    """Names of the experiences: their classes if they are few, else their numbers."""
    if protocol == 'class-incremental':
        classes = [sorted(set(map(int, data.targets))) for data in train]
        if max(map(len, classes)) <= 5:
            return ['-'.join(map(str, each)) for each in classes]
    return [str(place + 1) for place in range(len(train))]


def _fingerprint(name: str, options: Options, info: ScenarioInfo) -> str:
    """SHA-256 of the benchmark's arguments, and of labels and numbers of samples in order."""
    digest = hashlib.sha256(repr((name, sorted(options.items()), info.protocol, info.class_names)).encode())
    for dataset in info.train + info.test:
        digest.update(repr(dataset.targets).encode())
    return digest.hexdigest()
