"""SNLI-VE: does a photograph of Flickr30K entail a sentence, contradict it, or neither?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import parse_json, read_text
from clear.datasets.readers.image_files import check_there, existing_folder
from clear.datasets.table import ImageTable
from clear.registry import READERS

SPLITS = ('train', 'dev', 'test')
LABELS = ('entailment', 'neutral', 'contradiction')
# The people who were asked did not agree.
NO_LABEL = '-'
FOLDER = 'flickr30k-images'


@dataclass(frozen=True)
class Entailment:
    """A premise, as an image and as its caption, and a hypothesis.

    Attributes:
        image: id of the image in its table, `flickr30k-images/3416050480.jpg`.
        label: index in `LABELS`, -1 where people did not agree.
    """

    image: str
    premise: str
    hypothesis: str
    label: int


def entailment_file(data_root: str | Path, split: str) -> Path:
    """The file of a split, as the data set calls it."""
    check_choice('split', split, SPLITS)
    return existing_folder(data_root) / f'snli_ve_{split}.jsonl'


@READERS.register_module(name='SNLIVE')
def snli_ve(data_root: str, split: str = 'test') -> ImageTable:
    """The images of `flickr30k-images/` that a split is about, each once, sorted by name.

    Args:
        data_root: the folder of `snli_ve_<split>.jsonl` and of `flickr30k-images/`.
        split: 'train', 'dev' or 'test'.

    Raises:
        ConfigError: for another split.
        DataError: if the file is missing or not what it should be, or an image is not there.
    """
    file = entailment_file(data_root, split)
    paths = sorted({pair.image for pair in _pairs(file)})
    images = ImageTable.from_columns(file.parent, dict(path=paths), name=f'snli_ve_{split}')
    check_there(paths, file.parent, file)
    return images


def read_entailment(data_root: str | Path, split: str = 'test') -> list[Entailment]:
    """The pairs of a split in the order of the file, those without a label (`-`) too.

    Raises:
        ConfigError: for another split.
        DataError: if the file is missing or not what it should be.
    """
    file = entailment_file(data_root, split)
    pairs = list(_pairs(file))
    if not pairs:
        raise DataError(f'{file} has no pairs.')
    return pairs


def _pairs(file: Path) -> Iterator[Entailment]:
    for row, line in enumerate(read_text(file).split('\n'), 1):
        if not line.strip():
            continue
        entry = parse_json(line, f'{file}:{row}')
        try:
            if not isinstance(entry, Mapping):
                raise TypeError(f'{entry!r:.60} is no object')
            yield Entailment(f'{FOLDER}/{_image(entry["Flickr30K_ID"])}.jpg', _text(entry['sentence1']),
                             _text(entry['sentence2']), _label(entry['gold_label']))
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f'{file}:{row}: expected {{"Flickr30K_ID", "sentence1", "sentence2", "gold_label"}}; '
                            f'{type(error).__name__}: {error}.') from error


def _image(value: object) -> str:
    name = str(value).removesuffix('.jpg')
    if not name.isdigit():
        raise ValueError(f'{value!r} is no number of an image')
    return name


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{value!r} is no sentence')
    return value


def _label(value: object) -> int:
    if value == NO_LABEL:
        return -1
    if value not in LABELS:
        raise ValueError(f'{value!r} is no label; expected one of {", ".join(LABELS)} or {NO_LABEL}')
    return LABELS.index(value)
