"""`tools/print_config.py`: what it prints is a config again."""

import pytest
from mmengine.config import Config
from short_runs import CONFIGS, ROOT, run

SHIPPED = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
FIRST = {path.parent: path for path in reversed(SHIPPED)}  # the others of a folder are printed in the slow tests


@pytest.fixture(scope='module')
def unformatted_configs():
    """In place of the one for all tests: what is printed is formatted."""


@pytest.mark.parametrize('path', [
    pytest.param(path, id=path.stem, marks=() if FIRST[path.parent] == path else pytest.mark.slow)
    for path in SHIPPED])
def test_output_reloads_to_the_same_config(path, tmp_path):
    finished = run('print_config', path)
    assert finished.code == 0 and not finished.err
    printed = tmp_path / 'printed.py'
    printed.write_text(finished.out)
    assert f'# clear::{path.relative_to(CONFIGS).as_posix()}' == finished.out.splitlines()[0]
    assert Config.fromfile(str(printed)).to_dict() == Config.fromfile(str(path)).to_dict()


def test_options_are_applied(tmp_path):
    finished = run('print_config', 'configs/demo/replay_lenet5_demo.py', '--cfg-options', 'cl_strategy.mem_size=300',
                   'frozen=[backbone,neck]', 'cl_strategy.optimizer.lr=0.2')
    printed = tmp_path / 'printed.py'
    printed.write_text(finished.out)
    config = Config.fromfile(str(printed))
    assert config.cl_strategy.mem_size == 300
    assert config.frozen == ['backbone', 'neck']
    # Neighbours of what was set stay as the file and its bases have them.
    assert config.cl_strategy.optimizer.to_dict() == dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=0.0)
    assert config.cl_strategy.train_mb_size == 64


@pytest.mark.parametrize('name', ['configs/demo/naive_lenet5_demo.py', 'demo/naive_lenet5_demo.py'])
def test_shipped_configs_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished = run('print_config', name)
    assert finished.code == 0
    assert finished.out == run('print_config', ROOT / 'configs/demo/naive_lenet5_demo.py').out


def test_old_names_of_scenario_keys_are_translated(tmp_path):
    path = tmp_path / 'old.py'
    path.write_text("scenario = dict(dataset_type='CLEAR', dataset_root='here')\n")
    assert "scenario = dict(data_root='here', type='CLEAR')" in run('print_config', path).out
    # An option wins over the file, whichever name either of them uses.
    for option in ('scenario.data_root=there', 'scenario.dataset_root=there'):
        assert "data_root='there'" in run('print_config', path, '--cfg-options', option).out


@pytest.mark.parametrize(('option', 'says'), [
    ('bananas=1', "nobody reads 'bananas'"), ('cl_strateggy.train_epochs=2', "Did you mean 'cl_strategy'")])
def test_an_option_on_a_key_that_no_program_reads_is_refused(option, says):
    finished = run('print_config', 'configs/demo/naive_lenet5_demo.py', '--cfg-options', option)
    assert finished.code == 2 and says in finished.err and not finished.out


@pytest.mark.parametrize('option', ['threads=2', 'checkpoints=here', 'dtype=float32', 'options.seed=1'])
def test_a_key_that_some_program_reads_need_not_be_in_the_file(option, tmp_path):
    (tmp_path / 'c.py').write_text('x = 1\n')
    finished = run('print_config', tmp_path / 'c.py', '--cfg-options', option, 'x=2')
    assert finished.code == 0 and option.split('.')[0].split('=')[0] in finished.out and 'x = 2' in finished.out
