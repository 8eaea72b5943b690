"""The results store: one `results.json` per run, from which every table, figure and report is drawn."""

from __future__ import annotations

import ast
import functools
import math
import os
import platform
import pprint
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from clear.core.errors import DataError
from clear.core.files import read_json, write_json

if TYPE_CHECKING:
    from clear.core.types import Plain

SCHEMA = 1
# Far beyond any accuracy, loss or time, and far enough from where sums and squares of floats overflow.
_MAX_METRIC = 1e100
RESULTS_FILE = 'results.json'
OPTIONAL_KEYS = ('joint', 'extras')
# Recorded library -> the distributions that may provide it.
_DISTRIBUTIONS = {'torch': ('torch',), 'torchvision': ('torchvision',), 'mmengine': ('mmengine',),
                  'mmcv': ('mmcv', 'mmcv-lite'), 'mmpretrain': ('mmpretrain',), 'avalanche': ('avalanche-lib',)}
_GIT_TIMEOUT_S = 10


class Software(TypedDict):
    """What a run was made with: library -> version, and the commit of the checkout."""

    versions: dict[str, str | None]
    git: dict[str, Plain] | None


@dataclass
class Results:
    """What a run reports. Only `timing` may depend on the clock, the machine or a resume; all else must be
    equal between a resumed and an uninterrupted run.

    Args:
        name: the config's name; runs of one name with different seeds are repeats of each other.
        runner: class name of the runner.
        protocol: what the numbers mean, with a version, as in `clear/iid/v1`; only equal protocols compare.
        metrics: metric -> fraction or None; `train_overlap` holds a dict of those that measure training data.
        acc_matrix: rows = trained through bucket i, columns = tested on bucket j, None where not measured.
        overlap_mask: same shape, True where an entry measures training data.
        seeds: what was seeded -> seed, as in `{'train': 0, 'split': 3}`.
        timing: anything measured with a clock, in seconds unless the key says otherwise.
        joint: one model trained on all buckets at once (an upper bound), not over time.
        extras: `bucket_names`, `class_names` (lists of str), `config_text` (the resolved config), and more.
    """

    name: str
    runner: str
    protocol: str
    metrics: dict[str, Plain] = field(default_factory=dict)
    acc_matrix: list[list[float | None]] | None = None
    overlap_mask: list[list[bool]] | None = None
    config_hash: str | None = None
    seeds: dict[str, int | None] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    git: dict[str, Plain] | None = None
    world_size: int = 1
    timing: dict[str, float] = field(default_factory=dict)
    joint: bool = False
    extras: dict[str, object] = field(default_factory=dict)

    def __post_init__(self):
        # The same values in memory as after a round trip through the file.
        for item in fields(self):
            setattr(self, item.name, storable(getattr(self, item.name)))

    @property
    def progress(self) -> tuple[int, int] | None:
        """(measured, all) rows of the matrix; None without a matrix. Joint training has one row to measure."""
        if self.acc_matrix is None:
            return None
        # A task to come has no head, and nothing is measured on it.
        has_gaps = '/task-incremental/' in self.protocol
        measured = sum(any(value is not None for value in row) if has_gaps else None not in row
                       for row in self.acc_matrix)
        return (min(measured, 1), 1) if self.joint else (measured, len(self.acc_matrix))

    @property
    def bucket_names(self) -> list[str]:
        """Names of the columns of the matrix: from `extras`, else 1, 2, ..."""
        columns = len(self.acc_matrix[0]) if self.acc_matrix else 0
        names = self.extras.get('bucket_names')
        return [str(name) for name in names] if names else [str(j + 1) for j in range(columns)]


def write_results(path: str | Path, results: Results) -> None:
    """Write `results.json` atomically, in full precision. NaN and infinity become null: JSON has neither."""
    value = {'schema': SCHEMA, **{item.name: storable(getattr(results, item.name)) for item in fields(Results)}}
    for key in OPTIONAL_KEYS:
        if not value[key]:
            del value[key]
    write_json(path, value)


def read_results(path: str | Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        DataError: if the file is missing, no JSON, of another schema, or keys are missing, unknown or of a wrong type.
    """
    value = read_json(path)
    if not isinstance(value, dict) or 'schema' not in value:
        raise DataError(f"{path} has no 'schema': it is not a results file of this framework.")
    if value['schema'] != SCHEMA:
        raise DataError(f'{path} has schema {value["schema"]!r}; this version reads schema {SCHEMA}.')
    known = [item.name for item in fields(Results)]
    missing = [key for key in known if key not in value and key not in OPTIONAL_KEYS]
    unknown = [key for key in value if key not in (*known, 'schema')]
    if missing or unknown:
        raise DataError(f'{path} is no results file of schema {SCHEMA}: missing keys {missing}, unknown keys '
                        f"{unknown}. What a run wants to add belongs under 'extras'.")
    results = Results(**{key: value[key] for key in known if key in value})
    _check_types(path, results)
    return results


def find_results(run: str | Path) -> Path:
    """The results file of a run, given as its work_dir or as the file itself.

    Raises:
        DataError: if there is none.
    """
    run = Path(run)
    path = run / RESULTS_FILE if run.is_dir() else run
    if not path.is_file():
        raise DataError(f'{path} does not exist. Give the work_dir of a run that has measured something, '
                        f'or the path of its {RESULTS_FILE}.')
    return path


@functools.cache
def software() -> Software:
    """`versions` and `git` of a `Results` of this process, asked once: it runs what it imported."""
    return dict(versions=library_versions(), git=git_state(Path(__file__).parent))


def config_text(config: Mapping[str, object]) -> str:
    """A plain config as Python, a key per line, as `extras.config_text` holds it."""
    return '\n'.join(f'{key} = {pprint.pformat(value, width=110, sort_dicts=False)}' for key, value in config.items())


def stored_config(results: Results) -> dict[str, object]:
    """The resolved config that stands in a results file; empty if there is none that can be read."""
    config = results.extras.get('config')
    if isinstance(config, dict):
        return config
    try:
        lines = ast.parse(str(results.extras.get('config_text') or '')).body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    except (SyntaxError, ValueError, AttributeError, TypeError, RecursionError, MemoryError):
        return {}


def library_versions() -> dict[str, str | None]:
    """Versions of Python and the libraries that make the numbers, None if not installed; imports none of them."""
    from clear import __version__

    versions: dict[str, str | None] = {'clear': __version__, 'python': platform.python_version()}
    for library, distributions in _DISTRIBUTIONS.items():
        versions[library] = next((found for found in map(_version_of, distributions) if found), None)
    return versions


def git_state(folder: str | Path) -> dict[str, Plain] | None:
    """`{'commit', 'dirty'}` of the checkout around `folder`; None without one, without a commit or without git.

    Untracked files do not count as dirty: the run's own output would change the answer between start and resume.
    """
    commit = _git(folder, 'rev-parse', '--verify', 'HEAD')
    changes = _git(folder, 'status', '--porcelain', '--untracked-files=no')
    if not commit or changes is None:
        return None
    return {'commit': commit, 'dirty': bool(changes)}


def _git(folder: str | Path, *command: str) -> str | None:
    """Output of a git command in `folder`, None if it failed for any reason."""
    # Inside a git hook these point at another repository than the folder's; optional locks would write to it.
    env = {key: value for key, value in os.environ.items() if not key.startswith('GIT_')} | {'GIT_OPTIONAL_LOCKS': '0'}
    try:
        done = subprocess.run(['git', '-C', str(folder), *command], capture_output=True, text=True, env=env,
                              timeout=_GIT_TIMEOUT_S, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def storable(value: object) -> object:
    """Tensors, arrays and tuples as lists, their scalars as numbers, non-finite floats as None."""
    if hasattr(value, 'tolist'):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _check_types(path: str | Path, results: Results) -> None:
    """Refuse a file whose values have the wrong type, before a table or figure stumbles over them."""
    expected = {'name': str, 'runner': str, 'protocol': str, 'metrics': dict, 'seeds': dict, 'versions': dict,
                'timing': dict, 'extras': dict, 'world_size': int, 'joint': bool}
    for key, kind in expected.items():
        if not isinstance(getattr(results, key), kind):
            raise DataError(f'{path}: {key} should be a {kind.__name__}, got {getattr(results, key)!r}.')
    if results.git is not None and not isinstance(results.git, dict):
        raise DataError(f'{path}: git should be a dict or null, got {results.git!r}.')
    shape = _shape(path, 'acc_matrix', results.acc_matrix, (int, float, type(None)))
    wrong = [value for row in results.acc_matrix or () for value in row if value is not None and not 0 <= value <= 1]
    if wrong:
        raise DataError(f'{path}: acc_matrix holds {str(wrong[0])[:40]}; accuracies are fractions, 0 ... 1.')
    for table in (results.metrics, results.metrics.get('train_overlap')):
        for name, value in table.items() if isinstance(table, dict) else ():
            if isinstance(value, (int, float)) and abs(value) > _MAX_METRIC:
                raise DataError(f'{path}: metrics.{name} is {str(value)[:40]}; means and figures end far below.')
    if results.overlap_mask is not None and _shape(path, 'overlap_mask', results.overlap_mask, (bool,)) != shape:
        raise DataError(f'{path}: overlap_mask and acc_matrix {shape} differ in shape.')
    names = results.extras.get('bucket_names')
    if names is not None and (not isinstance(names, list) or shape is not None and len(names) != shape[1]):
        raise DataError(f'{path}: extras.bucket_names {names!r} do not name the columns of the matrix {shape}.')


def _shape(path: str | Path, key: str, rows: object, kinds: Sequence[type]) -> tuple[int, int] | None:
    """(rows, columns) of a matrix, None if there is none."""
    if rows is None:
        return None
    if (not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows)
            or len({len(row) for row in rows}) != 1
            or not all(isinstance(item, tuple(kinds)) for row in rows for item in row)):
        raise DataError(f'{path}: {key} should be rows of equal length that hold '
                        f"{' or '.join('null' if kind is type(None) else kind.__name__ for kind in kinds)}.")
    return len(rows), len(rows[0])
