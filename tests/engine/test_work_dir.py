"""The folder of a run: one run at a time, left-overs, and setting an old run aside."""

import multiprocessing
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from quick_runs import without_figures
from short_runs import FEATURE_CONFIG, read_results, run, train, write_config

from clear.core.errors import CheckpointError, ConfigError
from clear.core.storage.locks import locked
from clear.engine import work_dir as module
from clear.engine.work_dir import LOCK_FILE, REPLACED, claimed, held, replacing, run_files

OWN = ['results.json', 'report.html', 'run.log', 'env.txt', 'config.py', 'bad_samples.jsonl', 'latest.pth', 'exp_0.pth',
       'exp_12.pth', 'figures/accuracy_matrix.png', '20260101_101010.log', 'tensorboard/events.out.tfevents.17.host.1',
       'csv/training_results.csv', 'csv/eval_results.csv', 'wandb/offline-run-1/files/config.yaml', 'wandb/debug.log',
       'vis_data/scalars.json']
OTHERS = ['notes.txt', 'weights.pth', 'my.log', 'figures/mine.svg', 'sub/results.json', 'results.json.bak',
          'tensorboard/notes.md', 'csv/mine.csv', 'wandb/settings', '.mine.tmp']


def write(folder, names, text='old'):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text} {name}')


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in Path(folder).rglob('*') if path.is_file()}


def test_files_of_a_run_are_told_from_others(tmp_path):
    write(tmp_path, OWN + OTHERS)
    found = {path.relative_to(tmp_path).as_posix() for path in run_files(tmp_path)}
    assert found == {name if not name.startswith('wandb/off') else 'wandb/offline-run-1' for name in OWN}
    assert not run_files(tmp_path / 'nowhere')


# One run at a time

def test_a_folder_in_use_is_refused(tmp_path):
    with locked(tmp_path / LOCK_FILE, ''):
        for resume in (None, True):
            with pytest.raises(ConfigError, match='is in use by process .* choose another folder with --work-dir'), \
                    claimed(tmp_path, resume, overwrite=True):
                pass
    with held(tmp_path):
        assert (tmp_path / LOCK_FILE).is_file()
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_run_is_refused_unless_it_is_continued_or_replaced(tmp_path):
    for name in ('results.json', 'latest.pth', 'iteration.pth'):
        write(tmp_path, [name])
        with pytest.raises(ConfigError, match='already holds a run'), claimed(tmp_path, None, overwrite=False):
            pass
        with claimed(tmp_path, None, overwrite=True):
            pass
        (tmp_path / name).unlink()
    write(tmp_path, ['run.log', 'config.py'])  # of a run that was stopped before it saved anything
    with claimed(tmp_path, None, overwrite=False):
        pass
    with pytest.raises(CheckpointError, match='Nothing to resume'), claimed(tmp_path, True, overwrite=False):
        pass


def test_nothing_to_resume_makes_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match='Nothing to resume'), claimed(tmp_path / 'new', True, overwrite=False):
        pass
    assert not list(tmp_path.iterdir())


# Left-overs

def test_temporary_files_of_killed_writers_go_and_others_stay(tmp_path):
    ours = ['.latest.pth.a1b2c3_8.tmp', '.exp_3.pth.tmp', '.results.json.12345678.tmp',
            'figures/.accuracy_matrix.png.zzzzzzzz.tmp', 'vis_data/.scalars.json.abcdefgh.tmp']
    write(tmp_path, ours + OTHERS)
    with held(tmp_path):
        pass
    assert set(content(tmp_path)) == set(OTHERS)


# Setting aside

PARTS = ('seed_0', 'seed_4', 'bucket_a')


@pytest.fixture
def old(tmp_path):
    """A folder with an old run that has parts, and files of others."""
    for folder in (tmp_path, *(tmp_path / part for part in PARTS)):
        write(folder, OWN + OTHERS)
    return tmp_path


def parts(folder):
    return [folder / part for part in PARTS]


def test_what_cannot_be_built_leaves_every_byte(old):
    before = content(old)
    with pytest.raises(ConfigError, match='no'), held(old), replacing(old, True, parts(old)):
        assert not any(run_files(folder) for folder in (old, *parts(old)))
        assert (old / 'notes.txt').is_file() and (old / 'seed_0' / 'notes.txt').is_file()
        write(old, ['run.log', 'config.py', 'figures/new.png', 'seed_0/run.log'], 'new')
        raise ConfigError('no')
    assert content(old) == before


def test_what_is_built_replaces_the_old_run(old):
    others = {name: value for name, value in content(old).items()
              if any(name.removeprefix(f'{part}/') in OTHERS for part in ('', *PARTS))}
    with pytest.raises(RuntimeError), held(old), replacing(old, True, parts(old)) as built:
        write(old, ['run.log'], 'new')
        built()
        raise RuntimeError('in training')
    assert content(old) == {**others, 'run.log': b'new run.log'}


def killed_after(folder, moves, has_built):
    """Die in the middle of replacing a run, after so many moved files."""
    import os
    import signal

    original, left = module._move, [moves]

    def move(source, target):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        original(source, target)

    module._move = move
    with held(folder), replacing(folder, True, parts(folder)) as built:
        write(folder, ['run.log', 'config.py', 'seed_0/run.log'], 'new')
        if has_built:
            module.shutil.rmtree = lambda *_, **options: os.kill(os.getpid(), signal.SIGKILL)
            built()
        os.kill(os.getpid(), signal.SIGKILL)


def kill(*arguments):
    process = multiprocessing.get_context('fork').Process(target=killed_after, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -9


@pytest.mark.parametrize('moves', [0, 1, 20, 10 ** 6])
def test_a_kill_before_the_new_run_is_built_loses_nothing(old, moves):
    before = content(old)
    kill(old, moves, False)
    kill(old, moves, False)  # nor does a second one, which first puts back what the first has left
    with pytest.raises(ConfigError, match='no'), held(old), replacing(old, True, parts(old)):
        raise ConfigError('no')
    assert content(old) == before


def test_a_kill_after_the_new_run_is_built_keeps_the_new_one(old):
    kill(old, 10 ** 6, True)
    with held(old):
        pass
    left = content(old)
    assert left['run.log'] == b'new run.log' and left['notes.txt'] == b'old notes.txt' and 'results.json' not in left
    assert not list(old.glob(f'{REPLACED}*'))


# Programs

@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=6, images=False, num_buckets=2)


@pytest.fixture
def config(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_figures(monkeypatch)
    return write_config('config.py', FEATURE_CONFIG, root)


SEEDS = ['--cfg-options', 'seeds=[0,1]']
BAD = 'model.head.num_classes=5'


@pytest.mark.parametrize('options', [['--cfg-options'], SEEDS], ids=['one run', 'seeds'])
def test_a_refused_overwrite_leaves_every_byte(config, options):
    train(config, '--work-dir', 'run', *options, 'name=first')
    before = content('run')
    refused = run('train', config, '--work-dir', 'run', '--overwrite', *options, BAD)
    assert refused.code == 2 and content('run') == before
    train(config, '--work-dir', 'run', '--overwrite', *options, 'name=second')
    after = content('run')
    assert set(after) == set(before) and all(value != before[name] for name, value in after.items()
                                             if name.endswith('results.json'))


@pytest.mark.parametrize('folder', ['run', 'run/seed_1'])
def test_a_program_refuses_a_folder_in_use(config, folder):
    """Also the one of a seed, which is found when its turn comes."""
    Path(folder).mkdir(parents=True)
    with locked(Path(folder) / LOCK_FILE, ''):
        refused = run('train', config, '--work-dir', 'run', *SEEDS)
        assert refused.code == 2 and f'error: {folder} is in use by process' in refused.err
    train(config, '--work-dir', 'run', '--resume', *SEEDS)
    assert read_results('run/seed_1')['acc_matrix'][1][1] is not None


def test_dry_run_test_and_predict_take_no_lock(config):
    train(config, '--work-dir', 'run')
    with locked(Path('run') / LOCK_FILE, ''):
        assert run('train', config, '--work-dir', 'run', '--overwrite', '--dry-run').code == 0
        assert run('test', config, 'run/latest.pth').code == 0
        resumed = run('train', config, '--work-dir', 'run', '--resume')
    assert resumed.code == 2 and 'is in use by process' in resumed.err


def test_seeds_stopped_before_they_saved_anything_begin_with_the_same_command(config):
    write(Path('run/seed_0'), ['run.log', 'config.py', 'env.txt'])
    train(config, '--work-dir', 'run', *SEEDS)
    assert Path('run/summary.json').is_file()


def test_loggers_files_of_the_old_run_go_with_it(config):
    config.write_text(config.read_text() + "loggers = [dict(type='TensorboardLogger'), dict(type='CSVLogger')]\n")
    train(config, '--work-dir', 'run')
    write(Path('run'), ['tensorboard/notes.md'])
    train(config, '--work-dir', 'run', '--overwrite')
    assert len(list(Path('run/tensorboard').glob('events*'))) == 1
    assert Path('run/tensorboard/notes.md').is_file()
