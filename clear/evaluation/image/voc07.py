"""VOC 2007 classification of an encoder, by either of two protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clear.core.checks import check_text
from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.datasets import read_images
from clear.datasets.readers.voc import find_voc
from clear.evaluation.image.voc07_linear import VOC07Linear
from clear.evaluation.image.voc07_svm import VOC07SVM
from clear.evaluation.task import TaskData, TaskResult
from clear.features import extract
from clear.features.build import make_encoder
from clear.features.identity import ROOT

PROTOCOLS = {'clsa': VOC07Linear, 'svm': VOC07SVM}


def make_protocol(protocol: str, data_root: str | Path, *, device: str = 'cpu', num_workers: int = 0,
                  **options: Any) -> VOC07Linear | VOC07SVM:
    """The object that does the work; reads nothing yet.

    Args:
        options: of `VOC07Linear` ('clsa') or `VOC07SVM` ('svm').

    Raises:
        ConfigError: for another protocol, or options that it does not have.
    """
    if check_text('protocol', protocol) not in PROTOCOLS:
        raise ConfigError(f"protocol is {protocol!r}; there are 'clsa' (a linear layer on augmented images) and 'svm' "
                          '(support vector machines on features).')
    kind = PROTOCOLS[protocol]
    reading = dict(device=device, num_workers=num_workers)
    accepted = accepted_arguments(kind)
    check_keys('options', options, accepted - {'data_root', *reading}, f"protocol '{protocol}'")
    with building(f"protocol '{protocol}'"):
        return kind(data_root=str(data_root), **{key: reading[key] for key in reading if key in accepted}, **options)


def probing_config(protocol: str, encoder: dict[str, Any], data_root: str, options: dict[str, Any] | None = None
                   ) -> dict[str, Any]:
    """The config of a ProbeRunner for one encoder on either protocol, from the keys of `configs/selfsup/voc07/`.

    Raises:
        ConfigError: as `make_protocol`.
        DataError: if there are no images.
    """
    check_text('data_root', data_root)
    if not isinstance(options or {}, dict):
        raise ConfigError(f'options is {options!r}; expected a dict such as dict(seed=1).')
    task = make_protocol(protocol, data_root, **options or {})
    images = dict(type='ImageFolder', root=str(find_voc(data_root) / 'JPEGImages'))
    return dict(runner_type='ProbeRunner', seed=task.seed, encoders=dict(encoder=encoder),
                data=dict(train=images, test=images),
                tasks=[dict(type=type(task).__name__, name=protocol, data_root=data_root, **options or {})])


def voc07_classification(encoder: dict[str, Any] | nn.Module, data_root: str | Path, *, protocol: str = 'svm',
                         device: str | torch.device = 'cpu', num_workers: int = 0, batch_size: int = 64,
                         bank_root: str | Path = ROOT, **options: Any) -> TaskResult:
    """Classify VOC 2007 on frozen features.

    Args:
        encoder: an image encoder, or its config.
        data_root: the folder `VOC2007`, or one above it.
        protocol: 'svm' trains on trainval with costs by cross-validation (`VOC07SVM`), 'clsa' trains a linear layer on
            train and selects on val (`VOC07Linear`); both report test. Their numbers do not compare.
        batch_size, bank_root: of the extraction of features for 'svm', which are stored.
        options: of the protocol.

    Returns:
        `map`, the mean of 20 average precisions (area), with `map_11point`, each class and, for 'clsa',
        `map_per_image` in `extras`.

    Raises:
        ConfigError: for options that cannot be.
        DataError: if the data are incomplete.
    """
    task = make_protocol(protocol, data_root, device=str(device), num_workers=num_workers, **options)
    encoder = make_encoder(encoder)
    source = read_images(dict(type='ImageFolder', root=str(find_voc(data_root) / 'JPEGImages')))
    if 'images' in task.needs:
        return task.run(encoder, TaskData(images={'train': source, 'test': source}))
    bank = extract(encoder, source, root=bank_root, batch_size=batch_size, num_workers=num_workers, device=device)
    return task.run(None, TaskData(bank={'train': bank, 'test': bank}))
