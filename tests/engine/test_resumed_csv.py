"""The files of CSVLogger after a stop are those of a run that was not stopped."""

import sys
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from quick_runs import built, config, stop, trained

from clear.core.config import config_hash, is_hash_of
from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, read_json, save_tensors
from clear.engine.probing.keys import with_defaults

LOGS = dict(loggers=[dict(type='CSVLogger')], metrics=[dict(type='accuracy_metrics', epoch=True, experience=True),
                                                       dict(type='loss_metrics', epoch=True, experience=True)])
FILES = ('training_results.csv', 'eval_results.csv')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False)


@pytest.fixture(scope='module')
def whole(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    trained(config(root, **LOGS), folder)
    return {name: (folder / 'csv' / name).read_text() for name in FILES}


def test_the_files_are_those_of_avalanche(root, whole, tmp_path):
    from avalanche.logging import CSVLogger

    CSVLogger(str(tmp_path)).close()
    for name in FILES:
        assert whole[name].startswith((tmp_path / name).read_text())
    assert len(whole['training_results.csv'].splitlines()) == 1 + 3 * 2
    assert len(whole['eval_results.csv'].splitlines()) == 1 + 3 * 3


@pytest.mark.parametrize(('place', 'is_old'), [((0, 2), False), ((1, 5), False), ((2, 6), True)])
def test_rows_before_the_stop_stay_and_none_comes_twice(place, is_old, root, whole, tmp_path):
    """Also rows behind the checkpoint, which a kill leaves, and a torn one."""
    stop(built(config(root, **LOGS), tmp_path), *place)
    if is_old:  # a checkpoint of the version before, which did not count rows
        (tmp_path / 'iteration.pth').unlink()
        checkpoint = load_tensors(tmp_path / 'latest.pth')
        del checkpoint['progress']['logs']
        save_tensors(tmp_path / 'latest.pth', checkpoint)
    for name, row in zip(FILES, ('2,1,0.5,0,1.0,0\n2,2,0.', '0,2,0.5,1.0,0\n1,2')):
        with (tmp_path / 'csv' / name).open('a') as file:
            file.write(row)
    trained(config(root, **LOGS), tmp_path, resume=True)
    assert {name: (tmp_path / 'csv' / name).read_text() for name in FILES} == whole


def test_a_refused_resume_leaves_the_files(root, tmp_path):
    stop(built(config(root, **LOGS), tmp_path), 1, 2)
    before = (tmp_path / 'csv' / FILES[0]).read_bytes()
    with pytest.raises(CheckpointError, match='another config'):
        built(config(root, strategy=dict(train_mb_size=4), **LOGS), tmp_path).train(resume=True)
    assert (tmp_path / 'csv' / FILES[0]).read_bytes() == before


def test_a_fresh_run_begins_its_files_anew(root, whole, tmp_path):
    (tmp_path / 'csv').mkdir()
    (tmp_path / 'csv' / FILES[0]).write_text('of another run\n1,2\n')
    trained(config(root, **LOGS), tmp_path)
    assert {name: (tmp_path / 'csv' / name).read_text() for name in FILES} == whole


@pytest.mark.parametrize('path', [('banks', 'root'), ('scenario', 'feature', 'root'), ('scenario', 'data_root')])
def test_a_place_is_no_part_of_the_hash(path):
    def cfg(place):
        inner = {path[-1]: place, 'dtype': 'float16'}
        for key in path[-2::-1]:
            inner = {key: inner}
        return inner

    assert config_hash(cfg('here')) == config_hash(cfg('there'))


def test_the_hash_of_an_earlier_version_is_accepted():
    """The old probing run counted where its banks were kept: `banks.root` of its config."""
    sys.path.insert(0, str(Path(__file__).parents[1] / 'fixtures'))
    import make_v0

    saved = read_json(Path(make_v0.__file__).parent / 'v0/probe/results.json')['config_hash']
    cfg = with_defaults(make_v0.probe_config() | dict(tasks=make_v0.probe_config()['tasks'][:1]))
    assert saved != config_hash(cfg) and is_hash_of(saved, cfg)
    assert not is_hash_of(saved, {**cfg, 'seed': 0, 'grid': dict(lrs=[0.1])})
