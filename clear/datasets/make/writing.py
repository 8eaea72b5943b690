"""What every writer of a CLEAR tree needs: folders that are whole or absent, file lists and splits, a progress bar."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clear.core.errors import DataError

TEST_RATIO = 0.3

Row = tuple[str, int]  # (image path relative to the root, class index)


@contextmanager
def new_folder(out: str | Path, *, replace: bool = False, owner: str = '') -> Iterator[Path]:
    """Give a temporary folder beside `out` to write into, and rename it to `out` if the block ends without an error.

    Args:
        out: the folder to create; an empty one may exist.
        replace: whether a folder with content is exchanged for the new one. It stays until the new one is complete.
        owner: a name under which nobody else writes there now: what a killed process left under it is removed first,
            and what it had moved out of the way, to put its own there, is moved back.

    Raises:
        DataError: if `out` is a file, has content and `replace` is False, holds the home or the working
            directory and would be replaced, or if its parent cannot be written.
    """
    try:
        out = Path(out).resolve()
        prefix = f'.{out.name}.{owner}.' if owner else f'.{out.name}.'
        if owner:
            _tidy(out, prefix)
        _check_target(out, replace)
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix, suffix='.tmp'))
    except DataError:  # a ValueError that says it already
        raise
    except (OSError, ValueError) as error:  # ValueError: NUL or half a surrogate pair
        raise DataError(f'{out} cannot be written: {getattr(error, "strerror", None) or error}.') from error
    try:
        yield staging
        # mkdtemp makes folders that only the owner reads; give it the usual mode instead.
        umask = os.umask(0)
        os.umask(umask)
        staging.chmod(0o777 & ~umask)
        _check_target(out, replace)  # again: somebody else may have written there in the meantime
        _swap(staging, out, prefix)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _check_target(out: Path, replace: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f'{out} is a file, expected a folder to write.')
    if not any(out.iterdir()):
        return
    if not replace:
        raise DataError(f'{out} exists and has other content. Choose another folder, or overwrite it explicitly.')
    if Path.home().resolve().is_relative_to(out) or Path.cwd().resolve().is_relative_to(out):
        raise DataError(f'{out} holds your home or working directory, it will not be overwritten.')


def _tidy(out: Path, prefix: str) -> None:
    """Undo what a killed process was about to do."""
    for old in out.parent.glob(f'{glob.escape(prefix)}*.old'):
        if out.exists() and any(out.iterdir()) or not any(old.iterdir()):
            shutil.rmtree(old)
        else:
            old.replace(out)
    for staging in out.parent.glob(f'{glob.escape(prefix)}*.tmp'):
        shutil.rmtree(staging)


def _swap(staging: Path, out: Path, prefix: str) -> None:
    if not (out.exists() and any(out.iterdir())):
        staging.replace(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix, suffix='.old'))
    out.replace(old)
    try:
        staging.replace(out)
    except BaseException:
        old.replace(out)
        raise
    shutil.rmtree(old)


def ratio_folder(test_ratio: float) -> str:
    """What the folder of the splits of a ratio is called."""
    return f'testset_ratio_{test_ratio:g}'


def write_training_folder(root: str | Path, rows: dict[str, Sequence[Row]],
                          splits: dict[int, dict[str, tuple[Sequence[int], Sequence[int]]]],
                          test_ratio: float = TEST_RATIO) -> None:
    """Write `training_folder/` of CLEAR's old layout: bucket order, file lists, and the splits.

    Args:
        root: the data root. It is expected to be a folder in the making (`new_folder`): files are written in place.
        rows: for each bucket key, in stream order, the lines of its `all.txt`.
        splits: seed -> bucket key -> (train, test), both row numbers of that bucket's `all.txt`.
        test_ratio: the share that names the folder of the splits.

    Raises:
        ValueError: if a split misses a bucket, or if its train and test rows overlap or do not cover the bucket.
    """
    folder = Path(root) / 'training_folder'
    write_plain_json(folder / 'bucket_indices.json', list(rows))
    for bucket, listed in rows.items():
        write_rows(folder / 'filelists' / bucket / 'all.txt', listed)
    for seed, by_bucket in splits.items():
        write_split(folder / ratio_folder(test_ratio) / f'split_{seed}', rows, by_bucket)


def write_split(folder: Path, rows: dict[str, Sequence[Row]],
                by_bucket: dict[str, tuple[Sequence[int], Sequence[int]]]) -> None:
    """Write one split, `<bucket>/{train,test}.txt` and `{train,test}_indices.json`, in place.

    Raises:
        ValueError: as `write_training_folder` does.
    """
    if list(by_bucket) != list(rows):
        raise ValueError(f'{folder.name} has buckets {list(by_bucket)}, the file lists have {list(rows)}.')
    for bucket, (train, test) in by_bucket.items():
        if sorted([*train, *test]) != list(range(len(rows[bucket]))):
            raise ValueError(f'{folder.name}, bucket {bucket}: train and test rows overlap or leave rows out.')
        for name, indices in (('train', train), ('test', test)):
            write_rows(folder / bucket / f'{name}.txt', [rows[bucket][i] for i in indices])
            write_plain_json(folder / bucket / f'{name}_indices.json', list(indices))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a CLEAR file list: `<relative path> <class index>` per line, without a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(f'{image} {target}' for image, target in rows), encoding='utf-8')


def write_labeled_metadata(root: str | Path, records: dict[str, dict[str, dict[str, dict]]]) -> None:
    """Write `labeled_metadata/<bucket>/<class>.json` (`{id: record}`) and the `labeled_metadata.json` that lists them.

    `records` is bucket key -> class name -> image id -> record, in the order that readers shall see.
    """
    index: dict[str, dict[str, str]] = {}
    for bucket, by_class in records.items():
        for name, by_id in by_class.items():
            relative = f'labeled_metadata/{bucket}/{name}.json'
            write_plain_json(Path(root) / relative, by_id)
            index.setdefault(bucket, {})[name] = relative
    write_plain_json(Path(root) / 'labeled_metadata.json', index)


def write_class_names(root: str | Path, names: Sequence[str]) -> None:
    """Write `class_names.txt`; no newline at the end, because readers split the text at newlines."""
    Path(root).mkdir(parents=True, exist_ok=True)
    (Path(root) / 'class_names.txt').write_text('\n'.join(names), encoding='utf-8')


def write_plain_json(path: Path, value: object) -> None:
    """Write JSON in place, into a folder in the making."""
    # Not the atomic writer: the whole folder becomes visible by one rename, a sync per file would take minutes.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + '\n', encoding='utf-8')
