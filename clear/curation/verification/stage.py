"""The stage that keeps of a selection what people accepted, and says how precise each class of each bucket was."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow
from pyarrow import compute, parquet

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json
from clear.curation.manifest import Finished, Plan, StageFolder
from clear.curation.stage import Inputs, Job, Stage
from clear.curation.verification.agreement import agreement, wilson
from clear.curation.verification.answers import ACCEPT, REJECT, Answer, read_answers
from clear.curation.verification.decisions import FEW, RULES, TIE, Answers, Shown, collect, decide, kept
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

SELECTION, REVIEWED = 'selection.parquet', 'reviewed.parquet'
NUM_IMAGES = 150  # per class and bucket, of CLEAR
_NAMED = 20  # ties and unknown images that the manifest names


@STAGES.register_module()
class Verified(Stage):
    """Keep what people accepted.

    Its own tables, `reviewed.parquet`, have the decision for every image that was selected.

    Args:
        answers: files or folders, see `clear.curation.verification.answers`; of two answers of one reviewer for one
            image the later one stands, in the order of the files.
        rule: 'majority' of the reviewers (equal numbers are a tie, which is not kept), or 'unanimous'.
        min_reviewers: an image needs so many answers to be kept.
        num_images: the first so many accepted of each class and bucket, by rank; None keeps all.
        user_labels: for a folder of annotators: what they call a label -> the label; a dict or a JSON file.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('selection',)
    MAKES = 'selection'
    EXECUTION = frozenset({'answers', 'user_labels'})  # what they hold is a source

    def __init__(self, answers: str | Sequence[str], rule: str = 'majority', min_reviewers: int = 1,
                 num_images: int | None = NUM_IMAGES, user_labels: Mapping[str, str] | str | None = None):
        self.answers = [check_text('answers', path) for path in ([answers] if isinstance(answers, str) else answers)]
        if not self.answers:
            raise ConfigError('answers names no file.')
        self.rule = check_choice('rule', rule, RULES)
        self.min_reviewers = check_whole('min_reviewers', min_reviewers, 1)
        self.num_images = num_images if num_images is None else check_whole('num_images', num_images, 1)
        self.user_labels = user_labels

    def check(self) -> None:
        """Refuse answers that are not there."""
        for path in self.answers:
            if not Path(path).exists():
                raise DataError(f'{path} does not exist; answers names files that people filled in.')

    def sources(self) -> Mapping[str, Plain]:
        """Checksums of the answers, by place and name."""
        found = {f'{place}/{Path(path).name}': _checksum(Path(path)) for place, path in enumerate(self.answers)}
        return found | dict(user_labels=self._user_labels())

    def preview(self) -> list[str]:
        """How many answers there are, and of whom."""
        counts = Counter(answer.reviewer for answer in read_answers(self.answers, self._user_labels()))
        return [f'{counts.total():,} answers: ' + ', '.join(f'{name} {counts[name]:,}' for name in sorted(counts))]

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """One shard for each of the selection's; refuses answers of which none is for it."""
        collected = self._collected(inputs['selection'])
        if not collected.given:
            first = collected.unknown[0]
            raise DataError(f'none of the {len(collected.unknown)} answers is for an image of '
                            f'{inputs["selection"].folder.path}; the first is for image {first.id} in bucket '
                            f"'{first.bucket}', class '{first.label}'. Are they for another selection?")
        return Plan([dict(shard) for shard in inputs['selection'].manifest['plan']['shards']], {})

    def work(self, job: Job) -> Iterator[int]:
        """Decide for every image of a bucket, and keep the first accepted."""
        selection = job.inputs['selection']
        given = self._collected(selection).given
        for number in job.shards:
            bucket = job.plan.shards[number]['bucket']
            table = _ranked(selection, number)
            labels, ids = table['label'].to_pylist(), table['id'].to_pylist()
            verdicts = [given.get((bucket, label, each), {}) for label, each in zip(labels, ids)]
            decisions = [decide(each, self.rule, self.min_reviewers) for each in verdicts]
            rows, ranks = [], []
            for label in dict.fromkeys(labels):
                places = [place for place, other in enumerate(labels) if other == label]
                chosen = [places[place] for place in kept([decisions[place] for place in places], self.num_images)]
                rows += chosen
                ranks += range(1, len(chosen) + 1)
            with job.writing(number) as attempt:
                accepted = table.take(pyarrow.array(rows, pyarrow.int64()))
                rank = accepted.schema.get_field_index('rank')
                accepted = accepted.set_column(rank, accepted.schema.field(rank), pyarrow.array(ranks, pyarrow.int32()))
                parquet.write_table(accepted, attempt.folder / SELECTION, compression='zstd')
                counts = [Counter(each.values()) for each in verdicts]
                reviewed = table.select(['id', 'label', 'rank'])
                for name in (ACCEPT, REJECT):
                    reviewed = reviewed.append_column(name, pyarrow.array([each[name] for each in counts],
                                                                          pyarrow.int32()))
                parquet.write_table(reviewed.append_column('decision', pyarrow.array(decisions, pyarrow.string())),
                                    attempt.folder / REVIEWED, compression='zstd')
                attempt.counts.update(selected=len(labels), kept=len(rows),
                                      **{name: decisions.count(name) for name in (ACCEPT, REJECT, TIE, FEW)})
            yield number

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Precision and shortfall by bucket and class, agreement, and what became of answers."""
        selection = self.inputs['selection']
        collected = self._collected(selection)
        given = {name: selection.summary[name] for name in ('class_names', 'concepts', 'label_map')
                 if name in selection.summary}
        classes, ties = {}, []
        for number, shard in enumerate(plan.shards):
            found = parquet.read_table(folder.shard_folder(number) / REVIEWED)
            ranked = list(zip(*(found[name].to_pylist() for name in ('label', 'id', 'decision'))))
            by_label: dict[str, list[str]] = {label: [] for label in given['class_names']}
            for label, _, decision in ranked:
                by_label.setdefault(label, []).append(decision)
            classes[shard['bucket']] = {label: self._of_class(each) for label, each in by_label.items()}
            ties += [dict(bucket=shard['bucket'], label=label, id=each) for label, each, decision in ranked
                     if decision == TIE]
        review = dict(asdict(agreement(collected.given)), answers=sum(map(len, collected.given.values())),
                      reviewers=sorted({name for each in collected.given.values() for name in each}),
                      repeated=collected.repeated, unknown=len(collected.unknown), ties=len(ties),
                      first_ties=ties[:_NAMED],
                      first_unknown=[dict(bucket=each.bucket, label=each.label, id=each.id)
                                     for each in collected.unknown[:_NAMED]])
        buckets = {bucket: {label: each['kept'] for label, each in found.items()} for bucket, found in classes.items()}
        return dict(given, buckets=buckets, classes=classes, review=review)

    def report(self, finished: Finished) -> list[str]:
        """A line for every class of every bucket, and one on the reviewers."""
        review = finished.summary['review']
        lines = [f'{bucket:>8}  {label:<20}  {told(each)}' for bucket, found in finished.summary['classes'].items()
                 for label, each in found.items()]
        kappa = '' if review['kappa'] is None else f', {review["method"].capitalize()} kappa {review["kappa"]:.3f}'
        lines.append(f'{len(review["reviewers"])} reviewers, {review["answers"]:,} answers, {review["images"]:,} '
                     f'images by two or more{kappa}; {review["repeated"]:,} taken back, {review["ties"]:,} ties')
        if review['unknown']:
            first = review['first_unknown'][0]
            lines.append(f'{review["unknown"]:,} answers are for images that were not selected there, first image '
                         f"{first['id']} in bucket '{first['bucket']}', class '{first['label']}'")
        return lines + super().report(finished)

    def _of_class(self, decisions: Sequence[str]) -> dict[str, Plain]:
        """What became of one class in one bucket."""
        counts = Counter(decisions)
        decided = counts[ACCEPT] + counts[REJECT] + counts[TIE]
        low, high = wilson(counts[ACCEPT], decided)
        found = len(kept(decisions, self.num_images))
        return dict(selected=len(decisions), reviewed=decided, accepted=counts[ACCEPT], kept=found,
                    short=0 if self.num_images is None else self.num_images - found,
                    precision=counts[ACCEPT] / decided if decided else None, low=low, high=high)

    def _collected(self, selection: Finished) -> Answers:
        """The answers that count; what was selected is looked up for these alone."""
        answers = list(read_answers(self.answers, self._user_labels()))
        return collect(answers, _selected(selection, answers))

    def _user_labels(self) -> dict[str, str]:
        given = self.user_labels or {}
        found = read_json(given) if isinstance(given, str) else given
        if not isinstance(found, Mapping) or not all(isinstance(label, str) for label in found.values()):
            raise ConfigError(f'user_labels is {given!r}; expected text -> label, or a JSON file of it.')
        return dict(found)


def told(each: Mapping[str, Plain]) -> str:
    """What became of a class, as a line."""
    if not each['reviewed']:
        return f'none of {each["selected"]} reviewed'
    short = f', {each["short"]} short' if each['short'] else ''
    return (f'precision {each["precision"]:.3f} ({each["low"]:.3f} .. {each["high"]:.3f}) of {each["reviewed"]}, '
            f'{each["kept"]} kept{short}')


def _ranked(selection: Finished, number: int) -> pyarrow.Table:
    """A shard of a selection, class after class, each by rank."""
    table = parquet.read_table(selection.file(number, SELECTION))
    places = compute.index_in(table['label'], value_set=pyarrow.array(selection.summary['class_names']))
    return table.append_column('place', places).sort_by([('place', 'ascending'), ('rank', 'ascending'),
                                                         ('id', 'ascending')]).drop_columns('place')


def _selected(selection: Finished, answers: Sequence[Answer]) -> set[Shown]:
    """Those of the images that were answered for which were selected."""
    asked = pyarrow.array(sorted({answer.id for answer in answers}), pyarrow.int64())
    found: set[Shown] = set()
    for number, shard in enumerate(selection.manifest['plan']['shards']):
        table = parquet.read_table(selection.file(number, SELECTION), columns=['id', 'label'])
        table = table.filter(compute.is_in(table['id'], value_set=asked))
        found.update(zip([shard['bucket']] * len(table), table['label'].to_pylist(), table['id'].to_pylist()))
    return found


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob('*.json')) if path.is_dir() else [path]:
        digest.update(f'{file.relative_to(path)}\0'.encode('utf-8', 'surrogateescape'))
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
