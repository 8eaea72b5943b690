"""What Avalanche's benchmark factories need around them: no silent download, no foreign pickles, one file order.

Everything here holds while a benchmark is built and is undone afterwards.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import BinaryIO, NoReturn
from unittest import mock

from clear.core.errors import DataError

OMNIGLOT_TRAIN_DRAWINGS = 15  # of the 20 drawings of each character


class DownloadRefused(Exception):
    """Avalanche asked for the network although nobody asked for a download."""


@contextmanager
def without_network() -> Iterator[None]:
    """Every look-up of a host name raises `DownloadRefused`.

    Most factories start a download on their own where files are missing, and have no switch against it. Their own
    messages about it are kept from the console.
    """

    def refuse(host, *_args, **_kwargs):
        raise DownloadRefused(str(host))

    with mock.patch.object(socket, 'getaddrinfo', refuse), contextlib.redirect_stdout(io.StringIO()):
        yield


@contextmanager
def repaired() -> Iterator[None]:
    """Avalanche's data sets with the defects repaired that would make a benchmark wrong, unsafe or unrepeatable."""
    from avalanche.benchmarks.classic import comniglot
    from avalanche.benchmarks.datasets.core50 import core50
    from avalanche.benchmarks.datasets.endless_cl_sim import endless_cl_sim
    from avalanche.benchmarks.datasets.openloris import openloris
    from avalanche.benchmarks.datasets.tiny_imagenet import tiny_imagenet

    plain_pickle = SimpleNamespace(load=load_plain_pickle)
    images_of = tiny_imagenet.TinyImagenet.get_train_images_paths
    sequences = endless_cl_sim.EndlessCLSimDataset
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
                (core50, 'pkl', plain_pickle), (openloris, 'pkl', plain_pickle),
                # In the order of the file system otherwise.
                (tiny_imagenet.TinyImagenet, 'get_train_images_paths',
                 lambda self, name: sorted(images_of(self, name))),
                (sequences, '_prepare_classification_subsequence_datasets',
                 _in_order(sequences._prepare_classification_subsequence_datasets)),
                (comniglot, '_get_omniglot_dataset', _split_omniglot)):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(f'A file of the data set is a pickle that asks for {module}.{name}; it was not loaded, because '
                        'doing so could run foreign code.')


def load_plain_pickle(file: BinaryIO) -> object:
    """`pickle.load` for lists, dicts, text and numbers.

    Raises:
        DataError: if the file asks for anything else.
    """
    return _PlainUnpickler(file).load()


def _in_order(prepare: Callable) -> Callable:
    """Endless-CL-Sim's reader with sequences and files in the order of their names, and classes as numbers."""

    def prepare_in_order(self, path: str) -> bool:
        done = prepare(self, path)
        for datasets in (self.train_sub_sequence_datasets, self.test_sub_sequence_datasets):
            for dataset in datasets:
                pairs = sorted(zip(dataset.file_paths, dataset.targets))
                dataset.file_paths = [file for file, _ in pairs]
                dataset.targets = [dataset.labelmap[name] for _, name in pairs]
                dataset.labelmap = {label: label for label in dataset.labelmap.values()}
            datasets.sort(key=lambda dataset: dataset.file_paths[0])
        return done

    return prepare_in_order


def _split_omniglot(dataset_root: str | None):
    """Train and test drawings of the same 964 characters.

    Avalanche tests on Omniglot's second half, whose 659 characters are others than those it trains on: no classifier
    can be right there. Here the first 15 drawings of each character of the first half are for training, the other
    five for testing.
    """
    from avalanche.benchmarks.datasets import default_dataset_location
    from avalanche.benchmarks.datasets.omniglot import Omniglot

    root = str(dataset_root or default_dataset_location('omniglot'))
    parts = [Omniglot(root, train=True, download=True) for _ in range(2)]
    for is_test, part in enumerate(parts):
        drawings: dict[int, list] = {}
        for name, character in sorted(part._flat_character_images, key=lambda item: (item[1], item[0])):
            drawings.setdefault(character, []).append((name, character))
        part._flat_character_images = [
            item for of_one in drawings.values()
            for item in (of_one[OMNIGLOT_TRAIN_DRAWINGS:] if is_test else of_one[:OMNIGLOT_TRAIN_DRAWINGS])]
        part.targets = [character for _, character in part._flat_character_images]
    return parts


def remove_empty_folders(root: str) -> None:
    """Remove what a refused download left: `root` and the folders below it, if none of them holds a file."""
    if not os.path.isdir(root):  # noqa: PTH112
        return
    for folder, _, files in os.walk(root, topdown=False):
        if files:
            return
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106
