"""Predictions, their combination, the look at it before it is uploaded, and the table of scores."""

import itertools
import json
import zipfile

import pytest
import torch

from clear.core.errors import ConfigError, DataError
from clear.evaluation.elevater.base import SplitRows
from clear.evaluation.elevater.linear import ElevaterLinear
from clear.evaluation.elevater.submission import (
    Expected,
    ParameterCounts,
    combine,
    mode_folder,
    summarise,
    validate,
    write_predictions,
)
from clear.evaluation.task import TaskData
from tools.analysis_tools import elevater_submission

COUNTS = ParameterCounts(0, 100, 60, 90)
OWN = {'toy-colours': Expected(30, 3), 'toy-corners': Expected(66, 4, True)}


def softmax(images, classes, seed=0):
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed)).softmax(1)


def write_seeds(folder, name='toy-colours', seeds=(0, 1, 2), **options):
    """Few-shot predictions of three seeds; returns the folder of the mode."""
    images, classes = OWN[name].images, OWN[name].classes
    for seed in seeds:
        path = write_predictions(folder, 'linear_probe', name, softmax(images, classes, seed), model_name='m',
                                 counts=ParameterCounts(9 + seed, 100, 60, 90), n_shot=5, seed=seed, **options)
    return path.parent


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ['all_predictions.json']
        assert archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
        return json.loads(archive.read('all_predictions.json'))


def test_a_file_is_what_json_makes_of_it_with_six_digits(tmp_path):
    probabilities = softmax(30, 3)
    path = write_predictions(tmp_path, 'zero_shot', 'toy-colours', probabilities, model_name='m', counts=COUNTS)
    assert path == tmp_path / 'predictions' / mode_folder('zero_shot') / 'toy-colours.json'
    expected = dict(model_name='m', dataset_name='toy-colours', num_trainable_params=0, num_params=100,
                    num_visual_params=60, num_backbone_params=90, n_shot=0, rnd_seeds=[0],
                    predictions=[[[round(value, 6) for value in row] for row in probabilities.double().tolist()]])
    assert json.loads(path.read_text()) == expected and list(json.loads(path.read_text())) == list(expected)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('options, expected', [
    (dict(mode='zero_shot'), 'zeroshot_eval_wiki_False_wnh_False_wnd_False_gpt3_Falseagg_WIKI_AND_GPT3_gpt3count_1'),
    (dict(mode='zero_shot', wiki=True, gpt3=5, aggregate='WIKI_THEN_GPT3'),
     'zeroshot_eval_wiki_True_wnh_False_wnd_False_gpt3_Trueagg_WIKI_THEN_GPT3_gpt3count_5'),
    (dict(mode='linear_probe', n_shot=5), 'linear_probe_5'),
    (dict(mode='linear_probe', n_shot=-1), 'linear_probe_full'),
    (dict(mode='fine_tune', n_shot=20), 'finetuning_20'),
    (dict(mode='fine_tune', n_shot=-1, two_lr=True), 'finetuning_full_two_lr')])
def test_folders_of_the_modes(options, expected):
    assert mode_folder(**options) == expected


def joined_by_the_toolkits_rule(folder):
    """Group by set, average trainable parameters, join seeds and predictions, all else from the first."""
    entries = {}
    for path in sorted(folder.glob('*.json')):
        content = json.loads(path.read_text())
        entries.setdefault(content['dataset_name'], []).append(content)
    found = {}
    for name, own in entries.items():
        found[name] = own[0] | dict(
            num_trainable_params=sum(each['num_trainable_params'] for each in own) / len(own),
            rnd_seeds=list(itertools.chain.from_iterable(each['rnd_seeds'] for each in own)),
            predictions=list(itertools.chain.from_iterable(each['predictions'] for each in own)))
    return found


def test_seeds_and_sets_are_combined(tmp_path):
    folder = write_seeds(tmp_path, seeds=(2, 0, 1))
    assert write_seeds(tmp_path, 'toy-corners') == folder
    path = combine(folder)
    content = read_zip(path)
    assert [entry['dataset_name'] for entry in content['data']] == ['toy-colours', 'toy-corners']
    assert {entry['dataset_name']: entry for entry in content['data']} == joined_by_the_toolkits_rule(folder)
    assert content['data'][0]['num_trainable_params'] == 10 and content['data'][0]['rnd_seeds'] == [0, 1, 2]
    first = path.read_bytes()
    assert combine(folder) == path and path.read_bytes() == first


def test_sets_stand_in_the_order_of_the_benchmark(tmp_path):
    for name, classes in (('stanfordcar', 196), ('own', 2), ('mnist', 10), ('caltech101', 102)):
        path = write_predictions(tmp_path, 'zero_shot', name, softmax(2, classes), model_name='m', counts=COUNTS)
    names = [entry['dataset_name'] for entry in read_zip(combine(path.parent))['data']]
    assert names == ['caltech-101', 'mnist', 'stanford-cars', 'own']


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize('values, message', [
    (dict(model_name='other'), "seed1_toy-colours.json: model_name is 'other', in seed0_toy-colours.json 'm'"),
    (dict(n_shot=20), 'n_shot is 20'), (dict(rnd_seeds=[0]), 'has one seed twice'),
    (dict(rnd_seeds=[0, 1]), r'rnd_seeds is \[0, 1\] for the predictions of 1 seeds'),
    (dict(predictions=[[[1, 0, 0]]]), r'predictions of \(1, 3\) images and classes'),
    (dict(rnd_seeds=[[1]]), r'rnd_seeds is \[\[1\]\], expected whole numbers'),
    (dict(num_trainable_params='many'), "num_trainable_params is 'many'"),
    (dict(num_trainable_params=None), 'num_trainable_params is None'),
    (dict(predictions=[[[None, 0, 1]]]), 'seed1_toy-colours.json: its predictions hold 1 values that are NaN'),
    (dict(predictions=[[[1, 0], [1]]]), 'no array'), (dict(predictions=3), r'have the shape \(\)'),
    (dict(dataset_name='toy-corners'), "is of 'toy-corners', which its name does not say"),
    (dict(notes=1), 'it has notes besides')])
def test_files_that_do_not_agree_are_not_combined(tmp_path, values, message):
    folder = write_seeds(tmp_path)
    change(folder / 'seed1_toy-colours.json', **values)
    with pytest.raises(DataError, match=message):
        combine(folder)
    assert not (folder / 'all_predictions.zip').exists() and not list(folder.glob('.*'))


def test_seeds_may_be_written_as_text_and_stand_by_number(tmp_path):
    folder = write_seeds(tmp_path, seeds=(10, 2, 0))
    change(folder / 'seed2_toy-colours.json', rnd_seeds=['2'])
    assert read_zip(combine(folder))['data'][0]['rnd_seeds'] == [0, '2', 10]


def test_nothing_to_combine(tmp_path):
    for folder in (tmp_path, tmp_path / 'none'):
        with pytest.raises(DataError, match='holds no predictions'):
            combine(folder)
    (tmp_path / 'x.json').write_text('{"model_name": 1}')
    with pytest.raises(DataError, match=r'x.json is no prediction .* it lacks dataset_name, n_shot'):
        combine(tmp_path)


@pytest.mark.parametrize('probabilities, message', [
    (torch.full((3, 3), 0.5), 'do not sum to one in 3 of 3 rows .first: row 0, 1.5; 0.001 is allowed'),
    (torch.tensor([[1.2, -0.2]]), 'lie in -0.2 ... 1.2'), (torch.tensor([[float('nan'), 1]]), 'hold 1 values that are'),
    (torch.ones(3), r'have the shape \(3,\)'), (torch.ones(0, 3), 'are empty')])
def test_what_are_no_probabilities_is_not_written(tmp_path, probabilities, message):
    with pytest.raises(DataError, match=message):
        write_predictions(tmp_path, 'zero_shot', 'toy', probabilities, model_name='m', counts=COUNTS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('options, error, message', [
    (dict(mode='probe'), ConfigError, "mode is 'probe'"), (dict(n_shot=5), ConfigError, 'n_shot is 5 with'),
    (dict(mode='fine_tune'), ConfigError, 'n_shot is 0 with'), (dict(seed=-1), ConfigError, 'seed is -1'),
    (dict(set_name='mnist'), DataError, "for 'mnist' are of 3 classes; it has 10"),
    (dict(set_name='../../../x'), DataError, 'lies outside'), (dict(model_name=''), ConfigError, "model_name is ''"),
    (dict(score=50.0), ConfigError, 'score is 50.0')])
def test_wrong_predictions(tmp_path, options, error, message):
    given = dict(mode='zero_shot', set_name='toy', probabilities=softmax(4, 3), model_name='m', counts=COUNTS) | options
    with pytest.raises(error, match=message):
        write_predictions(tmp_path, **given)


def test_parameters_of_an_encoder_of_images_and_of_a_pair(tmp_path):
    from tiny_encoder import TinyEncoder

    encoder = TinyEncoder()
    size = 6 * 3 * 9 + 6
    assert ParameterCounts.of(encoder, classifier=21, trainable=21) == ParameterCounts(21, size + 21, size, size)


def test_parameters_of_a_pair():
    from tiny_text import TINY_CLIP

    from clear.features.build import make_encoder
    from clear.models import build_encoder

    side = dict(arch='ViT-B-32', model_args=TINY_CLIP)
    pair = make_encoder(dict(
        image_encoder=dict(type='OpenCLIPImageEncoder', **side), text_encoder=dict(type='OpenCLIPTextEncoder', **side),
        image_head=dict(type='ProjectionMLP', num_layers=1, out_channels=16)))
    image = build_encoder(dict(type='OpenCLIPImageEncoder', **side))
    visual = sum(value.numel() for value in image.parameters()) + 16 * 16 + 16
    total = sum(value.numel() for value in pair.parameters())
    assert ParameterCounts.of(pair, 8, 8) == ParameterCounts(8, total + 8, visual, total)


# Before it is uploaded


@pytest.fixture
def submission(tmp_path):
    write_seeds(tmp_path)
    return combine(write_seeds(tmp_path, 'toy-corners'))


def rewrite(path, edit):
    content = read_zip(path)
    edit(content['data'])
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('all_predictions.json', json.dumps(content))


def test_a_submission_in_order(submission):
    found = validate(submission, OWN)
    assert found.problems == [] and len(found.missing) == 20
    assert found.sets == {'toy-colours': '3 x 30 images x 3 classes', 'toy-corners': '3 x 66 images x 4 classes'}
    assert validate(submission.parent, OWN) == found
    assert validate(submission).problems[0].startswith("'toy-colours': is none of ELEVATER's sets")


def set_prediction(place, value):
    def edit(data):
        data[0]['predictions'][1][4][place] = value
    return edit


@pytest.mark.parametrize('edit, message', [
    (set_prediction(0, 1.5), "'toy-colours': its predictions lie in"),
    (set_prediction(0, 0.999), 'do not sum to one in 1 of 90 rows (first: row 34'),
    (set_prediction(0, float('nan')), 'hold 1 values that are NaN'),
    (lambda data: data[0].update(predictions=data[0]['predictions'][:2], rnd_seeds=[0, 1]), 'the seeds are 0, 1, 2'),
    (lambda data: data[0].update(rnd_seeds=[0, 1]), 'rnd_seeds is [0, 1] for the predictions of 3 seeds'),
    (lambda data: [rows.pop() for rows in data[0]['predictions']], 'has predictions of 29 images and 3 classes'),
    (lambda data: data[0]['predictions'][0][0].pop(), 'entry 0: predictions are no array'),
    (lambda data: data.append(data[0]), "'toy-colours' is there twice"),
    (lambda data: data[0].pop('num_params'), 'entry 0 is no prediction of ELEVATER\'s: it lacks num_params'),
    (lambda data: data[0].update(num_params='many'), "num_params is 'many'"),
    (lambda data: data[0].update(num_visual_params=1000), 'should each hold the one before'),
    (lambda data: data[0].update(n_shot=0), 'expected one seed'),
    (lambda data: data[0].update(n_shot=0), 'nothing is trained for zero-shot'),
    (lambda data: data[1].update(n_shot=20), "'toy-corners': n_shot is 20, in the first entry 5"),
    (lambda data: data[0].update(n_shot=2.5), 'n_shot is 2.5'),
    (lambda data: data[0].update(model_name=''), "model_name is ''"),
    (lambda data: data[0].update(dataset_name='toy-colors'), "is none of ELEVATER's sets; nearest: 'toy-colours'"),
    (lambda data: data.clear(), 'It has no entries')])
def test_everything_that_is_wrong_is_said(submission, edit, message):
    rewrite(submission, edit)
    problems = validate(submission, OWN).problems
    assert any(message in problem for problem in problems), problems


def test_of_several_labels_only_the_range_counts(submission):
    def edit(data):
        data[1]['predictions'][0][0] = [1, 1, 0, 0.5]
    rewrite(submission, edit)
    assert validate(submission, OWN).problems == []


@pytest.mark.parametrize('members, message', [
    ({'a.json': '{}'}, 'should hold all_predictions.json alone; it holds a.json'),
    ({'all_predictions.json': '{"data": {}}'}, 'is no submission: expected'),
    ({'all_predictions.json': '{"data": [{"a": ]}'}, 'is no valid JSON'),
    ({'all_predictions.json': '{"data": [{}], "more": 1}'}, 'something follows'),
    ({'all_predictions.json': '{"data": [{}, ]}'}, 'is no valid JSON'),
    ({'all_predictions.json': '{"data": [{} {}]}'}, 'is no valid JSON: neither a comma nor a bracket follows'),
    ({'all_predictions.json': '{"data": [, {}]}'}, 'is no valid JSON'),
    ({'all_predictions.json': b'\xff'}, 'no text in UTF-8')])
def test_archives_of_something_else(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match=message):
        validate(tmp_path / 'a.zip')


def test_a_damaged_or_missing_archive(submission):
    submission.write_bytes(submission.read_bytes()[:-30])
    with pytest.raises(DataError, match='damaged or no zip archive'):
        validate(submission)
    submission.unlink()
    with pytest.raises(DataError, match='Make it first: elevater_submission.py combine'):
        validate(submission.parent)
    with pytest.raises(DataError, match='does not exist'):
        validate(submission)


# Scores


def test_the_table_of_scores(tmp_path):
    for seed, score in ((0, 0.5), (1, 0.6), (2, 0.7)):
        write_predictions(tmp_path, 'linear_probe', 'mnist', softmax(3, 10), model_name='m', counts=COUNTS, n_shot=5,
                          seed=seed, score=score, metric='top1')
    for name, classes, score in (('mnist', 10, 0.25), ('dtd', 47, 0.125), ('imagenet-1k', 1000, 1.0)):
        write_predictions(tmp_path, 'zero_shot', name, softmax(3, classes), model_name='m', counts=COUNTS, score=score)
    summary = summarise(tmp_path)
    rows = [line.split(',') for line in summary.path.read_text().splitlines()]
    assert summary.path == tmp_path / 'summary.csv' and rows == summary.rows()
    assert rows[0] == ['dataset', 'linear_probe_5-accuracy%', f"{mode_folder('zero_shot')}-accuracy%"]
    table = {row[0]: row[1:] for row in rows[1:]}
    assert len(rows) == 24 and table['mnist'] == ['60.000', '25.000'] and table['dtd'] == ['', '12.500']
    assert table['gtsrb'] == ['', ''] and table['imagenet-1k'] == ['', '100.000']
    assert table['Average'] == ['60.000', '18.750'] and table['Sets averaged'] == ['1', '2']
    alone = summarise(tmp_path / 'scores' / 'linear_probe_5')
    assert alone.rows()[0] == ['dataset', 'linear_probe_5-accuracy%'] and alone.path.parent.name == 'linear_probe_5'


def test_no_scores_or_wrong_ones(tmp_path):
    with pytest.raises(DataError, match='holds no scores'):
        summarise(tmp_path)
    (tmp_path / 'scores' / 'm').mkdir(parents=True)
    (tmp_path / 'scores' / 'm' / 'x.json').write_text('{"dataset": "x", "value": 50}')
    with pytest.raises(DataError, match='x.json is no score'):
        summarise(tmp_path)


# The program


def test_the_program_combines_validates_and_summarises(tmp_path, capsys):
    folder = write_seeds(tmp_path, score=0.75)
    assert elevater_submission.main(['combine', str(folder)]) == 0
    own = ['--own', 'toy-colours=30x3', '--allow-missing']
    assert elevater_submission.main(['validate', str(folder), *own]) == 0
    assert 'The submission is in order' in capsys.readouterr().out
    assert elevater_submission.main(['validate', str(folder), *own[:2]]) == 1
    assert 'missing  20 of 20 sets, so the leaderboard computes no average: caltech-101' in capsys.readouterr().out
    assert elevater_submission.main(['validate', str(folder), '--own', 'toy-colours=31x3']) == 1
    assert 'problem' in capsys.readouterr().out
    assert elevater_submission.main(['summary', str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert 'toy-colours' in out and '75.000' in out and 'summary.csv' in out
    assert elevater_submission.main(['validate', str(folder), '--own', 'x']) == 2
    assert elevater_submission.main(['combine', str(tmp_path)]) == 2
    assert 'holds no predictions' in capsys.readouterr().err


def test_predictions_of_another_model_or_of_other_options_are_not_replaced(tmp_path):
    test = SplitRows(torch.zeros(30, 2), [[0]] * 30, torch.arange(30), 30)

    def predict(encoder_name='clip', **options):
        task = ElevaterLinear(set='toy-colours', metric='top1', predictions=str(tmp_path), **options)
        data = TaskData(encoder_name=encoder_name)
        task.check_predictions('linear_probe', data, task.seed_list, n_shot=task.shots)
        task.write('linear_probe', test, softmax(30, 3), 0.5, torch.nn.Identity(), data, n_shot=task.shots)

    predict()
    predict(shots=20)  # in a folder of its own
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.json')}
    predict(device='cpu', num_workers=2, bank_root='elsewhere')  # the same again
    predict('siglip')  # in a folder of its own
    with pytest.raises(DataError, match="are of 'clip'; those of 'mine' would replace them. Give another folder"):
        predict(model_name='mine')
    with pytest.raises(DataError, match='are made by other options'):
        predict(init='random')
    assert len(before) == 4 and {path: path.read_bytes() for path in before} == before
    assert len([*tmp_path.rglob('*.json')]) == 6
