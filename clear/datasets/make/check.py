"""A full report on a CLEAR tree: what is there, what is missing, unreadable, in two lists, or there twice."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from clear.core.errors import ClearError, DataError
from clear.core.files import read_json
from clear.datasets.buckets import Bucket
from clear.datasets.images.decode import UnreadableImage, decode_image, read_file
from clear.datasets.readers.clear.clear import NUM_CLASSES, check_data_name, how_to_get
from clear.datasets.readers.clear.clear_layouts import PARTS, Choice, Layout, NewLayout, OldLayout, open_layout
from clear.datasets.readers.image_files import real_path

KINDS = {'lists': 'lists and metadata that are wrong', 'overlap': 'train and test of a bucket share images',
         'missing': 'missing images', 'unreadable': 'unreadable images', 'identical': 'groups of identical images'}


@dataclass
class Problem:
    """One finding: its kind (a key of `KINDS`), the bucket ('' for the whole tree) and what was found."""

    kind: str
    bucket: str
    message: str


@dataclass
class CheckReport:
    """What `check_tree` found.

    Attributes:
        counts: bucket to images per class, in the order of `class_names`.
        splits: list name (e.g. 'split_0') to bucket to [train, test] sizes.
        decoded: whether every image was opened, or only its bytes were read.
        identical: groups of paths whose files have the same bytes.
    """

    root: str
    layout: str
    class_names: list[str] = field(default_factory=list)
    counts: dict[str, list[int]] = field(default_factory=dict)
    splits: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    feature_types: list[str] = field(default_factory=list)
    decoded: bool = True
    identical: list[list[str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        return sum(map(sum, self.counts.values()))

    def add(self, kind: str, bucket: str, message: object) -> None:
        self.problems.append(Problem(kind, bucket, str(message)))

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self) | {'num_images': self.num_images, 'is_clean': not self.problems}


def check_tree(data_root: str | Path, *, data_name: str | None = None, decode: bool = True,
               progress: Callable[[Iterable], Iterable] = iter) -> CheckReport:
    """Check every list, every file and (with `decode`) every image of a CLEAR tree.

    Args:
        data_name: also check the number of classes of this published set.
        progress: wraps the loop over images, e.g. `tqdm`.

    Raises:
        ConfigError, DataError: if `data_name` is unknown, or the root holds no CLEAR layout, or both.
    """
    check_data_name(data_name)
    root = real_path(data_root)
    tree = open_layout(root, 'auto', how_to_get(data_name, root))
    report = CheckReport(str(root), tree.name, seeds=tree.seeds(), shots=tree.shots(),
                         feature_types=tree.feature_types(), decoded=decode)
    try:
        report.class_names = tree.class_names()
        bucket_names = tree.bucket_names('all')
    except ClearError as error:
        report.add('lists', '', error)
        return report
    expected = NUM_CLASSES.get(data_name, len(report.class_names))
    if len(report.class_names) != expected:
        report.add('lists', '', f'{data_name} has {expected} classes, class_names.txt lists {len(report.class_names)}')

    everything = _check_whole_buckets(tree, bucket_names, report)
    for name, choice in _splits(tree):
        _check_split(tree, name, choice, everything, report)
    for feature_type in report.feature_types:
        _check_features(tree, feature_type, everything, report)
    _check_images(root, everything, report, decode, progress)
    return report


def _check_whole_buckets(tree: Layout, names: list[str], report: CheckReport) -> dict[str, Bucket]:
    """All images of each bucket whose lists can be read."""
    found = {}
    for name in names:
        try:
            found[name] = tree.bucket(name, 'all', Choice(), report.class_names)
        except ClearError as error:
            report.add('lists', name, error)
            continue
        counts = np.bincount(found[name].targets, minlength=len(report.class_names)).tolist()
        report.counts[name] = counts
        absent = [class_name for class_name, count in zip(report.class_names, counts) if not count]
        if absent:
            report.add('lists', name, f'no image of {len(absent)} classes: {", ".join(absent[:5])}')
    return found


def _splits(tree: OldLayout | NewLayout) -> list[tuple[str, Choice]]:
    if tree.name == 'new':
        return [('official', Choice())]
    pairs = [(f'split_{seed}', Choice(seed)) for seed in tree.seeds()]
    return pairs + [(f'{shot}_shot/split_{seed}', Choice(seed, shot)) for shot in tree.shots()
                    for seed in tree.shot_seeds(shot)]


def _check_split(tree: Layout, split: str, choice: Choice, everything: dict[str, Bucket], report: CheckReport) -> None:
    sizes = report.splits.setdefault(split, {})
    for name, whole in everything.items():
        try:
            absent = [part for part in PARTS if name not in tree.bucket_names(part, choice)]
            if absent:
                report.add('lists', name, f'{split}: {absent[0]} does not have this bucket')
                continue
            train, test = (tree.bucket(name, part, choice, report.class_names) for part in PARTS)
        except ClearError as error:
            report.add('lists', name, error)
            continue
        sizes[name] = [len(train), len(test)]
        _check_parts(tree, split, whole, train, test, report)
        if isinstance(tree, OldLayout):
            _check_indices(tree, split, name, choice, whole, (train, test), report)


def _check_parts(tree: Layout, split: str, whole: Bucket, train: Bucket, test: Bucket, report: CheckReport) -> None:
    """Train and test share nothing, and are the whole bucket together."""
    # In the new layout the two parts are folders; the same image has the same path below both.
    below = (lambda path: path.split('/', 1)[1]) if tree.name == 'new' else str
    shared = sorted(set(map(below, train.ids)) & set(map(below, test.ids)))
    if shared:
        report.add('overlap', whole.name, f'{split}: {len(shared)} images in train and test, first {shared[0]}')
    targets = dict(zip(whole.ids, whole.targets.tolist()))
    for part, bucket in zip(PARTS, (train, test)):
        wrong = [path for path, target in zip(bucket.ids, bucket.targets.tolist()) if targets.get(path) != target]
        if wrong:
            report.add('lists', whole.name, f'{split}: {len(wrong)} lines of {part} are not in all.txt or have another '
                                            f'class there, first {wrong[0]}')
    unused = len(set(targets) - set(train.ids) - set(test.ids))
    if unused:
        report.add('lists', whole.name, f'{split}: {unused} images are in neither train nor test')


def _check_indices(tree: OldLayout, split: str, name: str, choice: Choice, whole: Bucket,
                   parts: tuple[Bucket, Bucket], report: CheckReport) -> None:
    """The index lists, which features use, must choose what the file lists choose."""
    ids = whole.ids
    for part, bucket in zip(PARTS, parts):
        path = tree.list_file(name, part, choice).with_name(f'{part}_indices.json')
        try:
            chosen = [ids[row] for row in read_json(path)]
        except (DataError, TypeError, IndexError) as error:
            report.add('lists', name, f'{split}: {path} cannot be used: {error}')
            continue
        if chosen != bucket.ids:
            report.add('lists', name, f'{split}: {path} and {part}.txt choose different images')


def _check_features(tree: Layout, feature_type: str, everything: dict[str, Bucket], report: CheckReport) -> None:
    choice = Choice(feature_type=feature_type)
    for name, whole in everything.items():
        try:
            if name not in tree.bucket_names('all', choice):
                report.add('lists', name, f'features {feature_type}: the bucket is absent')
                continue
            found = tree.bucket(name, 'all', choice, report.class_names)
        except ClearError as error:
            report.add('lists', name, error)
            continue
        if sorted(found.targets.tolist()) != sorted(whole.targets.tolist()):
            report.add('lists', name, f'features {feature_type}: {len(found)} rows for {len(whole)} images, or other '
                                      'classes')


def _check_images(root: Path, everything: dict[str, Bucket], report: CheckReport, decode: bool,
                  progress: Callable[[Iterable], Iterable]) -> None:
    """Read every file once: present, readable, and the same bytes as no other."""
    # A path in several buckets is one file, and that it is listed twice is a finding of its own.
    places: dict[str, list[str]] = defaultdict(list)
    for name, bucket in everything.items():
        for path in bucket.paths:
            places[path].append(name)
    by_content: dict[bytes, list[str]] = defaultdict(list)
    for path in progress(list(places)):
        name = places[path][0]
        if len(places[path]) > 1:
            report.add('lists', name, f'{path} is also listed in bucket {", ".join(places[path][1:])}')
        try:
            content = read_file(root / path)
        except UnreadableImage as error:
            is_missing = str(error) == 'missing'
            report.add(*('missing', name, path) if is_missing else ('unreadable', name, f'{path}: {error}'))
            continue
        by_content[hashlib.sha256(content).digest()].append(path)
        if decode:
            try:
                decode_image(content)
            except UnreadableImage as error:
                report.add('unreadable', name, f'{path}: {error}')
    for group in by_content.values():
        if len(group) > 1:
            buckets = Counter(places[path][0] for path in group)
            report.identical.append(group)
            message = f'{len(group)} files in {len(buckets)} buckets: {", ".join(group)}'
            report.add('identical', ','.join(buckets), message)


def format_report(report: CheckReport, most: int = 10) -> str:
    """The report as text for a terminal, with at most `most` examples of each kind of problem."""
    lines = [f'root           {report.root}', f'layout         {report.layout}',
             f'classes        {len(report.class_names)}', f'buckets        {len(report.counts)}',
             f'images         {report.num_images}', f'seeds          {_row(report.seeds)}',
             f'shots          {_row(report.shots)}', f'feature types  {_row(report.feature_types)}', '']
    lines += _count_table(report) + ['']
    for split, sizes in report.splits.items():
        lines.append(f'{split}, train/test per bucket: '
                     + ', '.join(f'{name} {train}/{test}' for name, (train, test) in sizes.items()))
    lines.append('')
    for kind, title in KINDS.items():
        found = [problem for problem in report.problems if problem.kind == kind]
        if kind == 'unreadable' and not report.decoded and not found:
            lines.append(f'{title}: not looked for (no image was decoded)')
            continue
        lines.append(f'{title}: {len(found)}')
        lines += [f'  bucket {problem.bucket or "-"}: {problem.message}' for problem in found[:most]]
        if len(found) > most:
            lines.append(f'  ... and {len(found) - most} more')
    lines.append('clean' if not report.problems else f'{len(report.problems)} problems')
    return '\n'.join(lines)


def _row(values: list) -> str:
    return ', '.join(map(str, values)) or 'none'


def _count_table(report: CheckReport, most_classes: int = 20) -> list[str]:
    """Images per class and bucket; with many classes only a summary per bucket."""
    if not report.counts:
        return ['no bucket could be read']
    if len(report.class_names) > most_classes:
        lines = [f'{"bucket":>8}{"images":>9}{"min":>6}{"median":>8}{"max":>6}  smallest class']
        for name, counts in report.counts.items():
            lines.append(f'{name:>8}{sum(counts):>9}{min(counts):>6}{np.median(counts):>8.0f}{max(counts):>6}  '
                         + report.class_names[int(np.argmin(counts))])
        return lines
    width = max(12, *map(len, report.class_names)) + 2
    lines = [f'{"images":<{width}}' + ''.join(f'{"b" + name:>7}' for name in report.counts)]
    for index, class_name in enumerate(report.class_names):
        lines.append(f'{class_name:<{width}}' + ''.join(f'{counts[index]:>7}' for counts in report.counts.values()))
    return lines + [f'{"all":<{width}}' + ''.join(f'{sum(counts):>7}' for counts in report.counts.values())]
