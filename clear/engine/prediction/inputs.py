"""Which files are meant: paths, folders and patterns become a list, and each is read where a loader wants it."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader, Dataset

from clear.core.errors import ConfigError
from clear.datasets.images.decode import UnreadableImage
from clear.datasets.readers.image_files import image_files, is_hidden

if TYPE_CHECKING:
    import torch

    from clear.engine.prediction.base import Reader, Sample

FEATURES = '.npy'


def find_files(places: Iterable[str | Path], reads_features: bool = False) -> list[str]:
    """The files that are meant, each once, in the order of the places, inside a folder or pattern by name.

    Args:
        places: files, folders (with all that is below), and patterns such as `data/*/cat_?.jpg` or `data/**/*.png`.
            What exists under that very name is no pattern.
        reads_features: files of features (`.npy`) are looked for in folders, and not images.

    Raises:
        ConfigError: naming what is missing, or holds nothing.
    """
    found: dict[str, None] = {}
    missing = []
    for place in map(str, places):
        if Path(place).is_file():
            files = [place]
        elif Path(place).is_dir():
            files = _below(Path(place), reads_features)
            if not files:
                raise ConfigError(f'{place} holds no {"files of features (.npy)" if reads_features else "images"}.')
        else:
            files = _matching(place, reads_features)
        missing += [] if files else [place]
        found.update(dict.fromkeys(files))
    if missing:
        raise ConfigError(f"No such image: {', '.join(missing[:10])}{' ...' if len(missing) > 10 else ''}.")
    return list(found)


def _below(folder: Path, reads_features: bool) -> list[str]:
    if not reads_features:
        return [str(folder / path) for path in image_files(folder)]
    paths = folder.rglob(f'*{FEATURES}')
    return [str(path) for path in sorted(paths) if not any(map(is_hidden, path.relative_to(folder).parts))]


def _matching(pattern: str, reads_features: bool) -> list[str]:
    if not glob.has_magic(pattern):
        return []
    found: list[str] = []
    for match in sorted(map(Path, glob.glob(pattern, recursive=True))):  # noqa: PTH207 - of absolute patterns too
        if not match.is_dir():
            found.append(str(match))
        elif '**' not in pattern:
            found += _below(match, reads_features)
    return found


class _Files(Dataset):
    """Row -> (what is read of it, None), or (None, why it cannot be read)."""

    def __init__(self, paths: Sequence[str], reader: Reader):
        self.paths = paths
        self.reader = reader

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[list[Sample] | torch.Tensor | None, str | None]:
        try:
            return self.reader.read(self.paths[row]), None
        except UnreadableImage as error:
            return None, str(error)


def read_files(paths: Sequence[str], reader: Reader, batch_size: int, num_workers: int = 0
               ) -> Iterator[list[tuple[str, list[Sample] | torch.Tensor | None, str | None]]]:
    """Batches of (path, samples, None), or (path, None, reason); in the order of the paths."""
    num_workers = min(num_workers, (len(paths) - 1) // batch_size)  # to start them takes longer than a single batch
    loader = DataLoader(_Files(paths, reader), batch_size=batch_size, num_workers=num_workers, collate_fn=list)
    start = 0
    for batch in loader:
        yield [(paths[start + place], *read) for place, read in enumerate(batch)]
        start += len(batch)
