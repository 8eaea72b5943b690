"""Answers of people: every form read, agreement against scikit-learn and by hand, what is kept against loops."""

import csv
import json
import multiprocessing
import random
import shutil

import curated_stages
import pytest
from curated_stages import export, files
from sklearn.metrics import cohen_kappa_score

from clear.core.errors import ConfigError, DataError
from clear.curation.manifest import Finished
from clear.curation.verification import read_answers, record_answer, write_batches
from clear.curation.verification.agreement import agreement, cohen_kappa, fleiss_kappa, wilson
from clear.curation.verification.answers import Answer
from clear.curation.verification.decisions import decide
from clear.curation.verification.spreadsheets import quoted, read_csv, unquoted, write_csv
from clear.datasets.make.check import check_tree
from clear.engine.stages.runner import StageRunner


def finished(made):
    return {kind: Finished(path) for kind, path in made.inputs.items()}


# Agreement


@pytest.mark.parametrize('seed, lean', [(0, 0.5), (1, 0.9), (2, 0.99)])
def test_cohen_is_scikit_learns(seed, lean):
    rng = random.Random(seed)
    truth = [rng.random() < lean for _ in range(60)]
    one, other = (['accept' if value ^ (rng.random() < 0.2) else 'reject' for value in truth] for _ in range(2))
    assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))


def test_fleiss_by_hand():
    """Fleiss' own example (1971 in short): ten subjects, fourteen raters, five categories; kappa .210."""
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
             [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    counts = [dict(zip('abcde', row)) for row in table]
    assert fleiss_kappa(counts) == pytest.approx(0.20993, abs=1e-5)
    # Three reviewers of three images by hand: agreement (1 + 1/3 + 1/3) / 3, by chance (6/9)^2 + (3/9)^2.
    few = [dict(accept=3), dict(accept=2, reject=1), dict(accept=1, reject=2)]
    assert fleiss_kappa(few) == pytest.approx((5 / 9 - 5 / 9) / (1 - 5 / 9))


def test_agreement_of_one_two_and_more():
    two = {1: dict(a='accept', b='accept'), 2: dict(a='accept', b='reject'), 3: dict(a='reject', b='reject'),
           4: dict(a='accept')}
    found = agreement(two)
    assert (found.method, found.images, found.share) == ('cohen', 3, pytest.approx(2 / 3))
    assert found.kappa == pytest.approx(cohen_kappa_score(['y', 'y', 'n'], ['y', 'n', 'n']))
    three = {1: dict(a='accept', b='accept', c='accept'), 2: dict(a='accept', c='reject')}
    assert agreement(three).method == 'fleiss' and agreement(three).share == pytest.approx(3 / 4)
    assert agreement({1: dict(a='accept')}).method == '' and agreement({}).images == 0
    assert agreement({1: dict(a='accept', b='accept')}).kappa is None  # chance would agree, too


@pytest.mark.parametrize('hits, count, expected', [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)),
                                                   (81, 263, (0.2553, 0.3662)), (0, 0, (0, 1))])
def test_wilsons_interval(hits, count, expected):
    """The third is that of Newcombe (1998), table I."""
    assert wilson(hits, count) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize('verdicts, majority, unanimous', [
    ('aa', 'accept', 'accept'), ('ar', 'tie', 'reject'), ('aar', 'accept', 'reject'), ('rra', 'reject', 'reject'),
    ('a', 'few', 'few')])
def test_rules(verdicts, majority, unanimous):
    given = {place: dict(a='accept', r='reject')[verdict] for place, verdict in enumerate(verdicts)}
    assert decide(given, 'majority', 2) == majority and decide(given, 'unanimous', 2) == unanimous


# Forms


def test_answers_of_the_page(tmp_path):
    file = tmp_path / 'a/answers.jsonl'
    record_answer(file, 'ann', 5, '1', 'bus', 'accept')
    with file.open('ab') as stream:
        stream.write(b'{"reviewer": "ann", "id": 6')  # the machine went down
    record_answer(file, 'bob', 5, '1', 'a "bus",\n', 'reject')
    assert list(read_answers([file])) == [Answer('ann', 5, '1', 'bus', 'accept'),
                                          Answer('bob', 5, '1', 'a "bus",\n', 'reject')]
    for wrong in (dict(verdict='maybe'), dict(reviewer=' ')):
        with pytest.raises(ConfigError, match='verdict|reviewer'):
            record_answer(file, **dict(reviewer='x', id=1, bucket='1', label='b', verdict='accept') | wrong)


def _answer_often(file, name):
    for number in range(40):
        record_answer(file, name, number, '0', 'bus', 'accept')


def test_many_processes_append_whole_lines(tmp_path):
    file = tmp_path / 'answers.jsonl'
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=_answer_often, args=(file, name)) for name in 'abc']
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = list(read_answers([file]))
    assert len(found) == 120 and {(answer.reviewer, answer.id) for answer in found} == {
        (name, number) for name in 'abc' for number in range(40)}


def test_cells_that_a_spreadsheet_would_compute_are_quoted(tmp_path):
    texts = ['=1+1', '+x', '-x', '@sum', '\ttab', '\rcr', "'quote", "'=1", 'plain', '', 'a=b', '1', '"x", y', 'é']
    write_csv(tmp_path / 'x.csv', ['text', 'number'], [dict(text=text, number=-1.5) for text in texts])
    with (tmp_path / 'x.csv').open(newline='') as file:
        raw = list(csv.DictReader(file))
    assert not [row['text'] for row in raw if row['text'][:1] in ('=', '+', '-', '@', '\t', '\r')]
    assert raw[0] == dict(text="'=1+1", number='-1.5')
    assert [unquoted(quoted(text)) for text in texts] == texts
    back = [row['text'] for _, row in read_csv(tmp_path / 'x.csv', ['text'])]
    assert back == [text.replace('\r', '\n') for text in texts]
    (tmp_path / 'semicolons.csv').write_text('id;bucket;label;verdict\n3;0;bus, coach;yes\n')
    assert list(read_answers([tmp_path / 'semicolons.csv'])) == [Answer('semicolons', 3, '0', 'bus, coach', 'accept')]


def test_annotators_keep_what_has_exactly_the_label_under_which_it_was_found(tmp_path):
    given = {'1': ['coach'], '2': ['bus'], '3': ['bus', 'laptop'], '4': [], '5': ['laptop'], '6': 'coach'}
    for name, labels in given.items():
        file = tmp_path / 'clean/4/bus' / f'{name}.json'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dict(task_result=dict(annotations=[dict(input=dict(value=labels))]))))
    found = list(read_answers([tmp_path / 'clean'], dict(coach='bus')))
    assert [(answer.id, answer.verdict) for answer in found] == [
        (1, 'accept'), (2, 'accept'), (3, 'reject'), (4, 'reject'), (5, 'reject'), (6, 'accept')]
    assert {(answer.reviewer, answer.bucket, answer.label) for answer in found} == {('clean', '4', 'bus')}
    (tmp_path / 'clean/4/bus/7.json').write_text('{"task_result": {"annotations": []}}')
    with pytest.raises(DataError, match=r'7.json has no task_result.annotations.0.input.value'):
        list(read_answers([tmp_path / 'clean']))


def test_label_studios_exports(tmp_path):
    def annotation(verdict, who, **more):
        return dict(completed_by=who, result=[dict(from_name='verdict', type='choices',
                                                   value=dict(choices=[verdict]))], **more)

    data = dict(id='3', bucket='0', label='bus')
    tasks = [dict(data=data, annotations=[annotation('accept', 1), annotation('reject', dict(email='b@x.example')),
                                          annotation('reject', 3, was_cancelled=True), dict(result=[])])]
    (tmp_path / 'full.json').write_text(json.dumps(tasks))
    (tmp_path / 'min.json').write_text(json.dumps([data | dict(verdict='reject', annotator=4), data]))
    assert list(read_answers([tmp_path / 'full.json', tmp_path / 'min.json'])) == [
        Answer('1', 3, '0', 'bus', 'accept'), Answer('b@x.example', 3, '0', 'bus', 'reject'),
        Answer('4', 3, '0', 'bus', 'reject')]


@pytest.mark.parametrize('name, content, message', [
    ('a.jsonl', '', 'holds no answers'), ('a.csv', 'id,bucket,label,verdict\n1,0,bus,\n', 'holds no answers'),
    ('a.json', '[]', 'holds no answers'), ('a.txt', 'x', 'answers are read from .jsonl'),
    ('a.csv', 'id,bucket,label\n1,0,bus\n', "no column 'verdict'; it has id, bucket, label"),
    ('a.csv', 'id,bucket,label,verdict\n1,0,bus\n', 'a.csv:2: a row with more or fewer cells'),
    ('a.csv', 'id,bucket,label,verdict\nx,0,bus,yes\n', "a.csv:2: id is 'x'"),
    ('a.csv', 'id,bucket,label,verdict\n1,0,bus,perhaps\n', "a.csv:2: verdict is 'perhaps'; expected 'accept'"),
    ('a.jsonl', '[1]\n', 'a.jsonl:1: expected an answer'), ('a.jsonl', '{"id": 1}\n', 'a.jsonl:1: the answer has no'),
    ('a.jsonl', '\n{"id": x}\n', 'a.jsonl:2 is no valid JSON'), ('a.json', '{}', "expected Label Studio's export")])
def test_files_that_hold_something_else(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_answers([tmp_path / name]))


# Batches, and the stage


def test_batches_have_images_and_text_as_text(tmp_path):
    made = curated_stages.world(tmp_path / 'in', per_class=4, store='tar')
    written = write_batches(finished(made), tmp_path / 'out', batch_size=5, per_class=2, reviewers=['ann', 'bob'])
    assert [path.name for path in written] == [f'batch_00{place}.{name}.csv' for place in range(3)
                                               for name in ('ann', 'bob')]
    rows = [row for path in written[::2] for _, row in read_csv(path, ['id'])]
    shown = [(row['bucket'], row['label'], int(row['id']), row['rank']) for row in rows]
    assert shown == [(bucket, label, made.records[number]['id'], str(rank)) for bucket, by_label in made.chosen.items()
                     for label, chosen in by_label.items() for rank, (number, _) in enumerate(chosen[:2], start=1)]
    numbers = {record['id']: number for number, record in enumerate(made.records)}
    for row in rows:
        assert (tmp_path / 'out' / row['image']).read_bytes() == made.contents[numbers[int(row['id'])]]
        assert row['title'] == 'café \ufffd' and row['reviewer'] == 'ann' and row['verdict'] == ''
    with pytest.raises(DataError, match='has other content'):
        write_batches(finished(made), tmp_path / 'out')
    task, = write_batches(finished(made), tmp_path / 'studio', form='label-studio')
    tasks = json.loads(task.read_text())
    assert len(tasks) == 24 and tasks[0]['data']['image'].startswith('/data/local-files/?d=images/0/laptop/')
    layout = (tmp_path / 'studio/label_config.xml').read_text()
    assert '<Text name="title" value="$title"/>' in layout and 'HyperText' not in layout
    with pytest.raises(ConfigError, match="reviewer '../x'"):
        write_batches(finished(made), tmp_path / 'other', reviewers=['../x'])


def verify(made, folder, answers, export_to=None, **options):
    config = dict(stages=[dict(type='Verified', answers=[str(path) for path in answers], **options)],
                  inputs=dict(selection=str(made.inputs['selection'])))
    StageRunner(config, folder / 'run').run()
    return Finished(folder / 'run/stages/verified')


def test_kept_are_the_first_accepted_by_loops(tmp_path):
    made = curated_stages.world(tmp_path / 'in')
    rng, said = random.Random(3), {}
    for bucket, by_label in made.chosen.items():
        for label, chosen in by_label.items():
            for number, _ in chosen:
                for name in ('ann', 'bob', 'eve'):
                    if rng.random() < 0.9:
                        verdict = 'accept' if rng.random() < 0.7 else 'reject'
                        said[bucket, label, number, name] = verdict
                        for each in ('reject', verdict) if number % 7 == 0 else (verdict,):  # the last one stands
                            record_answer(tmp_path / f'{name}.jsonl', name, made.records[number]['id'], bucket, label,
                                          each)
    answers = sorted(tmp_path.glob('*.jsonl'))
    record_answer(answers[0], 'ann', 12345678, '0', 'bus', 'accept')
    record_answer(answers[0], 'ann', made.records[0]['id'], '1', 'bus', 'accept')  # of bucket 0
    found = verify(made, tmp_path, answers, num_images=3)
    short, kept = {}, {}
    for bucket, by_label in made.chosen.items():
        for label, chosen in by_label.items():
            accepted, decided = [], 0
            for number, score in chosen:
                verdicts = [verdict for (*shown, _), verdict in said.items() if shown == [bucket, label, number]]
                decided += bool(verdicts)
                if verdicts.count('accept') > verdicts.count('reject'):
                    accepted.append((number, score))
            kept.setdefault(bucket, {})[label] = accepted[:3]
            each = found.summary['classes'][bucket][label]
            assert each['precision'] == pytest.approx(len(accepted) / decided) and each['reviewed'] == decided
            assert each['low'] < each['precision'] < each['high'] or len(accepted) in (0, decided)
            short[bucket, label] = each['short']
            assert each['short'] == 3 - len(accepted[:3]) and each['accepted'] == len(accepted)
    ties = [key[:3] for key in said if sorted(said.get((*key[:3], name), '') for name in ('ann', 'bob', 'eve')) == [
        '', 'accept', 'reject']]
    review = found.summary['review']
    assert review['ties'] == len(set(ties)) == found.counts['tie'] > 0 and review['method'] == 'fleiss'
    assert review['unknown'] == 2 and review['first_unknown'][0]['id'] == 12345678
    assert review['repeated'] == sum(key[2] % 7 == 0 for key in said) and review['answers'] == len(said)
    assert found.summary['buckets'] == {bucket: {label: len(each) for label, each in by_label.items()}
                                        for bucket, by_label in kept.items()}
    # The merged data set is that of a selection of these alone.
    checked = curated_stages.SimpleNamespace(**vars(made))
    checked.inputs = made.inputs | dict(selection=tmp_path / 'run/stages/verified')
    out = export(checked, tmp_path / 'e', testset_ratio=0)
    assert {problem.kind for problem in check_tree(out).problems} <= {'lists'}
    shutil.rmtree(tmp_path / 'in/selection')
    curated_stages.select(tmp_path / 'in/selection', kept, made.records, made.group)
    expected = export(made, tmp_path / 'f', testset_ratio=0)
    assert {name: content for name, content in files(out).items() if name != 'manifest.json'} == {
        name: content for name, content in files(expected).items() if name != 'manifest.json'}


def test_answers_for_another_selection_or_none(tmp_path):
    made = curated_stages.world(tmp_path / 'in', per_class=2)
    record_answer(tmp_path / 'a.jsonl', 'ann', 99999, '0', 'bus', 'accept')
    with pytest.raises(DataError, match=r"none of the 1 answers is for an image .* image 99999 in bucket '0'"):
        verify(made, tmp_path, [tmp_path / 'a.jsonl'])
    with pytest.raises(DataError, match=r'nowhere.jsonl does not exist'):
        verify(made, tmp_path / 'b', [tmp_path / 'nowhere.jsonl'])
    (tmp_path / 'empty.jsonl').touch()
    with pytest.raises(DataError, match=r'empty.jsonl holds no answers'):
        verify(made, tmp_path / 'c', [tmp_path / 'empty.jsonl'])
    number = made.chosen['0']['bus'][0][0]
    record_answer(tmp_path / 'd.jsonl', 'ann', made.records[number]['id'], '0', 'bus', 'accept')
    verify(made, tmp_path / 'd', [tmp_path / 'd.jsonl'])
    record_answer(tmp_path / 'd.jsonl', 'ann', made.records[number]['id'], '0', 'bus', 'reject')
    with pytest.raises(ConfigError, match=r"'verified' .* made of something else: inputs.sources.0/d.jsonl"):
        verify(made, tmp_path / 'd', [tmp_path / 'd.jsonl'])
    for options in (dict(rule='best'), dict(num_images=0), dict(min_reviewers=0)):
        with pytest.raises(ConfigError, match=next(iter(options))):
            verify(made, tmp_path / 'e', [tmp_path / 'a.jsonl'], **options)
