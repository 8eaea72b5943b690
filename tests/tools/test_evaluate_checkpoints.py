"""Every checkpoint of a run: the numbers are those that training measured, a stop loses nothing that was done."""

import csv
import json
import shutil

import pytest
import torch
from PIL import Image
from short_runs import read_results, run
from tiny_text import TINY_CLIP

from clear.core.errors import ConfigError, DataError
from clear.engine.probing.checkpoints import CheckpointScan
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.work.execution import Executor

TOOL = 'analysis_tools/evaluate_checkpoints'
CONFIG = """
_args = {args!r}
_classes = dict(type='PromptedClassification', images=dict(type='ImageFolder', root={root!r}),
                templates=['a {{}} picture', 'all {{}}'])
model = dict(type='ImageTextAlignment', image_encoder=dict(
                 type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
             loss=dict(type='InfoNCELoss'))
train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(
    type='ImageTextPairs', images=_classes,
    transform=[dict(type='RandomResizedCrop', size=32, scale=(0.5, 1.0)), dict(type='ToTensor')]))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.002))
train_cfg = dict(by_epoch=True, max_epochs=3)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
custom_hooks = [dict(type='TaskHook', data=dict(test=_classes), tasks=[
    dict(type='ZeroShot', name='zero_shot', templates=['all {{}}']),
    dict(type='SentenceSimilarity', name='sts', path={pairs!r})])]
threads, seed, device = 1, 3, 'cpu'
"""
COLOURS = dict(red=(200, 30, 30), green=(20, 190, 40), blue=(30, 40, 210))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished run of three epochs."""
    folder = tmp_path_factory.mktemp('trained')
    for name, colour in COLOURS.items():
        (folder / 'images' / name).mkdir(parents=True)
        for row in range(4):
            Image.new('RGB', (36, 40), tuple(value + 5 * row for value in colour)).save(
                folder / 'images' / name / f'{row}.png')
    (folder / 'pairs.tsv').write_text('score\tsentence1\tsentence2\n5\tall red\ta red picture\n3\tred\tgreen\n'
                                      '1\tan old ship\ta cat\n2\ttwo\tone\n')
    (folder / 'config.py').write_text(CONFIG.format(args=TINY_CLIP, root=str(folder / 'images'),
                                                    pairs=str(folder / 'pairs.tsv')))
    done = run('train', folder / 'config.py', '--work-dir', folder / 'run')
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """A copy of the run."""
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    shutil.copytree(trained / 'run', tmp_path / 'run')
    return tmp_path / 'run'


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def attempts(work):
    return {path.parent.name: [job['attempts'] for job in json.loads(path.read_text())['jobs'].values()]
            for path in sorted((work / 'evaluation').glob('*/jobs.json'))}


def test_each_epoch_has_a_row_with_the_numbers_that_training_measured(work):
    done = run(TOOL, work, '--device', 'cpu')
    assert done.code == 0, done.err
    rows, log = table(work / 'evaluation' / 'evaluation_metrics_all.csv'), read_results(work)['extras']['train_log']
    assert [row['epoch'] for row in rows] == ['1', '2', '3'] and [row['iteration'] for row in rows] == ['2', '4', '6']
    for row, entry in zip(rows, log):
        assert float(row['zero_shot/top1']) == entry['zero_shot']
        assert float(row['sts/spearman_cosine']) == pytest.approx(entry['sts'])
    assert (work / 'evaluation' / 'figures' / 'metrics_over_training.png').read_bytes().startswith(b'\x89PNG')
    assert {'checkpoint', 'epoch', 'iteration', 'zero_shot/mean_per_class'} <= set(rows[0])


def test_what_is_done_is_not_done_again_unless_the_weights_changed(work):
    cfg = dict(device='cpu', tasks=[dict(type='SentenceSimilarity', name='sts', path=str(work.parent / 'p.tsv'))])
    (work.parent / 'p.tsv').write_text('score\tsentence1\tsentence2\n5\ta\ta cat\n3\tred\tgreen\n1\tship\tdog\n')
    for _ in range(2):
        path, = CheckpointScan(work, cfg).run()
        assert set(map(tuple, attempts(work).values())) == {(1,)}
    before = path.read_bytes()
    saved = torch.load(work / 'epoch_2.pth', weights_only=True)
    saved['state_dict']['text_encoder.model.text_projection'].mul_(-1).add_(0.1)
    torch.save(saved, work / 'epoch_2.pth')
    CheckpointScan(work, cfg).run()
    assert attempts(work)['epoch_2'] == [2] and attempts(work)['epoch_1'] == [1]
    changed = [old == new for old, new in zip(before.splitlines(), path.read_bytes().splitlines())]
    assert changed == [True, True, False, True]


def test_stopped_after_any_checkpoint_it_ends_with_the_same_table(work, monkeypatch):
    whole, = CheckpointScan(work, out=work.parent / 'whole').run()
    plain = Executor.do
    for stop_at in (1, 3, 2):
        count = 0

        def stops(self, job, keep, stop_at=stop_at):
            nonlocal count
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
            plain(self, job, keep)

        monkeypatch.setattr(Executor, 'do', stops)
        with pytest.raises(KeyboardInterrupt):
            CheckpointScan(work, out=work.parent / 'parts').run()
    monkeypatch.setattr(Executor, 'do', plain)
    path, = CheckpointScan(work, out=work.parent / 'parts').run()
    assert path.read_bytes() == whole.read_bytes()


def sentences(folder, *, name='sts', first=5):
    """A task on text that takes no time."""
    path = folder / f'{name}.tsv'
    path.write_text(f'score\tsentence1\tsentence2\n{first}\ta\ta cat\n3\tred\tgreen\n1\tship\tdog\n')
    return dict(type='SentenceSimilarity', name=name, path=str(path))


@pytest.fixture
def short(work):
    """The run after its first epoch has gone."""
    (work / 'epoch_1.pth').unlink()
    return work


def test_a_row_stays_when_its_checkpoint_is_gone(short, monkeypatch):
    cfg = dict(device='cpu', tasks=[sentences(short.parent)])
    path, = CheckpointScan(short, cfg).run()
    before = path.read_bytes()
    (short / 'epoch_2.pth').unlink()
    saved = torch.load(short / 'latest.pth', weights_only=True)
    saved['state_dict']['text_encoder.model.text_projection'].mul_(-1)
    plain = ProbeRunner.run

    def stops(self):
        raise KeyboardInterrupt

    for epoch in (4, 5):  # the one checkpoint that the run goes on to write
        saved['progress'].update(epoch=epoch, iter=2 * epoch)
        torch.save(saved, short / 'latest.pth')
        monkeypatch.setattr(ProbeRunner, 'run', stops)
        with pytest.raises(KeyboardInterrupt):
            CheckpointScan(short, cfg).run()
        assert path.read_bytes() == before
        monkeypatch.setattr(ProbeRunner, 'run', plain)
        CheckpointScan(short, cfg).run()
        assert path.read_bytes().startswith(before)
        before = path.read_bytes()
    assert [(row['checkpoint'], row['epoch']) for row in table(path)] == [
        ('epoch_2', '2'), ('epoch_3', '3'), ('latest', '4'), ('latest', '5')]


def test_a_checkpoint_that_goes_before_its_turn_is_passed_over(short):
    scan = CheckpointScan(short, dict(device='cpu', tasks=[sentences(short.parent)]))
    (short / 'epoch_2.pth').unlink()
    path, = scan.run()
    assert [row['epoch'] for row in table(path)] == ['3']


def test_each_config_has_a_table_of_its_own(short, tmp_path):
    texts = dict(one=sentences(tmp_path), two={**sentences(tmp_path, name='other', first=0), 'name': 'sts'})
    paths = [short / 'evaluation' / name / 'evaluation_metrics_all.csv' for name in texts]
    found = []
    for name in ('one', 'two', 'one'):
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(device='cpu', tasks=[texts[name]])))
        done = run(TOOL, short, '--config', tmp_path / f'{name}.json')
        assert done.code == 0, done.err
        found.append([path.read_bytes() for path in paths if path.exists()])
    assert found[1] == found[2] and found[1][0] == found[0][0] != found[1][1]
    for path in (path.parent / f'epoch_{epoch}' / 'jobs.json' for path in paths for epoch in (2, 3)):
        assert [job['attempts'] for job in json.loads(path.read_text())['jobs'].values()] == [1]


def test_a_folder_takes_more_tasks_but_no_others(short, tmp_path):
    first, second = sentences(tmp_path), sentences(tmp_path, name='second', first=2)
    path, = CheckpointScan(short, dict(device='cpu', tasks=[first])).run()
    before = path.read_bytes()
    for tasks, message in (([{**second, 'name': 'sts'}], "numbers of 'sts', with other arguments or data"),
                           ([second], "numbers of 'sts', which is no task of this call")):
        with pytest.raises(ConfigError, match=message):
            CheckpointScan(short, dict(device='cpu', tasks=tasks))
    assert path.read_bytes() == before
    CheckpointScan(short, dict(device='cpu', tasks=[first, second])).run()
    assert all(new.startswith(old) for old, new in zip(before.splitlines(), path.read_bytes().splitlines()))
    assert all(row['second/spearman_cosine'] for row in table(path)) and attempts(short)['epoch_2'] == [1, 1]


def test_a_folder_elsewhere_belongs_to_one_run(work, tmp_path):
    cfg = dict(device='cpu', tasks=[sentences(tmp_path)])
    CheckpointScan(work, cfg, checkpoints=['epoch_1'], out=tmp_path / 'out').run()
    work.rename(tmp_path / 'other')
    with pytest.raises(ConfigError, match="numbers of 'sts', of another run"):
        CheckpointScan(tmp_path / 'other', cfg, out=tmp_path / 'out')


def test_a_damaged_checkpoint_fails_alone(work, tmp_path):
    (tmp_path / 'tasks.json').write_text(json.dumps(dict(device='cpu', tasks=[sentences(tmp_path)])))
    path = work / 'evaluation' / 'tasks' / 'evaluation_metrics_all.csv'
    before = None
    for count, epoch in enumerate((1, 2)):  # one that was never measured, and one that was
        file = work / f'epoch_{epoch}.pth'
        file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
        done = run(TOOL, work, '--config', tmp_path / 'tasks.json')
        assert done.code == 2 and f'{count + 1} of 3 checkpoints cannot be read' in done.err and file.name in done.err
        assert f'cannot be read: epoch_{epoch}' in done.out
        assert [row['epoch'] for row in table(path)] == ['2', '3']
        assert before in (None, path.read_bytes())
        before = path.read_bytes()


@pytest.mark.parametrize('text', ['no,table\n1,2\n', 'checkpoint,epoch,iteration,a/b\nepoch_1,1,2,x\n', '\x00"\n"'],
                         ids=['columns', 'value', 'bytes'])
def test_a_table_that_cannot_be_read_is_not_replaced(work, text):
    (work / 'evaluation').mkdir()
    path = work / 'evaluation' / 'evaluation_metrics_all.csv'
    path.write_text(text)
    with pytest.raises(DataError, match='is no table of checkpoints'):
        CheckpointScan(work, dict(device='cpu', tasks=[sentences(work.parent)])).run()
    assert path.read_text() == text


def test_a_single_checkpoint_has_a_table_of_its_own(work):
    done = run(TOOL, work, '--device', 'cpu', '--checkpoints', 'epoch_2')
    assert done.code == 0, done.err
    folder = work / 'evaluation'
    row, = table(folder / 'single_evaluation_metrics@epoch_2.csv')
    assert row['epoch'] == '2' and row['checkpoint'] == 'epoch_2'
    assert not (folder / 'evaluation_metrics_all.csv').exists() and not (folder / 'epoch_1').exists()


def test_a_failed_task_leaves_its_cells_empty_and_ends_with_an_error(work, tmp_path):
    (tmp_path / 'tasks.json').write_text(json.dumps(dict(device='cpu', tasks=[
        dict(type='SentenceSimilarity', name='gone', path='gone.tsv'),
        dict(type='SentenceSimilarity', name='sts', path=str(tmp_path / 'p.tsv'))])))
    (tmp_path / 'p.tsv').write_text('score\tsentence1\tsentence2\n5\ta\ta cat\n3\tred\tgreen\n1\tship\tdog\n')
    done = run(TOOL, work, '--config', tmp_path / 'tasks.json')
    assert done.code == 2 and '3 of 3 checkpoints have failed tasks' in done.err and 'gone.tsv' in done.err
    rows = table(work / 'evaluation' / 'tasks' / 'evaluation_metrics_all.csv')
    assert len(rows) == 3 and all(row['sts/spearman_cosine'] for row in rows)
    assert not any(name.startswith('gone') for name in rows[0])


@pytest.mark.parametrize('arguments, message', [
    (['nowhere'], 'there is no folder nowhere'),
    (['{run}', '--checkpoints', 'epoch_9'], "has no checkpoint 'epoch_9'; it has epoch_1, epoch_2, epoch_3, latest"),
    (['{run}', '--checkpoints', 'epoch_1', 'epoch_1'], 'have one name'),
    (['{run}', '--cfg-options', 'seed=1'], 'give one'),
    (['{run}', '--config', '{odd}'], "'taks'"),
    (['{continual}'], 'latest.pth')])
def test_what_cannot_be_evaluated_is_said_in_one_line(work, tmp_path, arguments, message):
    (tmp_path / 'odd.json').write_text(json.dumps(dict(taks=[], tasks=[dict(type='KNN')])))
    (tmp_path / 'continual').mkdir()
    torch.save(dict(format=1, state_dict={}, progress=dict(experience=0)), tmp_path / 'continual' / 'latest.pth')
    places = dict(run=work, odd=tmp_path / 'odd.json', continual=tmp_path / 'continual')
    done = run(TOOL, *(argument.format(**places) for argument in arguments))
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) <= 2, done.err


def test_a_run_that_measured_nothing_needs_a_config(work):
    saved = torch.load(work / 'epoch_1.pth', weights_only=True)
    saved['config'].pop('custom_hooks')
    torch.save(saved, work / 'epoch_1.pth')
    done = run(TOOL, work, '--dry-run')
    assert done.code == 2 and 'give a probing config' in done.err
    assert not (work / 'evaluation').exists()
