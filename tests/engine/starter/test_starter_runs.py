"""What `clear init` tells to type is typed, to the end of every run; and a run that was killed ends like another."""

import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from killed_runs import die, run_in_fork
from short_runs import read_results, run

from clear.cli import PROGRAMS
from clear.datasets.make.demo import write_demo
from clear.engine.starter.kinds import KINDS
from clear.engine.starter.write import commands, write_starter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ALL = pytest.mark.parametrize('kind', KINDS)
# The same run with fewer steps.
SHORT = {'continual': ('cl_strategy.train_epochs=1',), 'pretraining': ('train_cfg.max_epochs=2',),
         'alignment': ('train_cfg.max_epochs=2',)}


def typed(kind, line, *more):
    """Run a command line of `clear` in this process."""
    _, name, *arguments = shlex.split(line)
    if name in ('train', 'curate') and kind in SHORT:
        more = (*more, '--cfg-options', *SHORT[kind])
    done = run(PROGRAMS[name][0].removesuffix('.py'), *arguments, *more)
    assert done.code == 0, done.err
    return done


def of_own_module(kind, work_dir):
    """What the class of `own.py` left in a work_dir."""
    results = read_results(work_dir)
    metrics = results['metrics']
    return {'continual': lambda: results['acc_matrix'][-1][-1],
            'pretraining': lambda: norms(work_dir)[-1],
            'alignment': lambda: metrics['loss'],
            'probing': lambda: metrics['random/alikeness/cosine'],
            'evaluation': lambda: metrics['random/names/cosine'],
            'curation': lambda: metrics['equal_buckets/inside']}[kind]()


def norms(work_dir):
    lines = map(json.loads, (Path(work_dir) / 'vis_data' / 'scalars.json').read_text().splitlines())
    return [line['weight_norm'] for line in lines if 'weight_norm' in line]


@ALL
def test_all_that_is_told_runs_to_its_end(kind, started):
    started(kind)
    for line in commands(kind)[1:]:  # the first makes the data
        typed(kind, line)
    if kind == 'alignment':  # the model of the checkpoint has a loss of own.py
        typed(kind, 'clear evaluate-checkpoints work_dirs/config')
    assert of_own_module(kind, 'work_dirs/config') > 0
    if kind != 'curation':
        assert Path('work_dirs/config/report.html').stat().st_size > 1000
        assert (Path('work_dirs/seed1') / 'results.json').is_file()


def test_first_alignment_finds_digits_by_their_names(tmp_path, monkeypatch):
    """As it is written, on a third of its images: chance is 0.10."""
    write_starter(tmp_path, 'alignment')
    monkeypatch.chdir(tmp_path)
    write_demo('data/demo', seeds=[0], limit=600)
    typed('whole', 'clear train config.py')
    assert read_results('work_dirs/config')['metrics']['zero_shot'] > 0.5


@ALL
def test_a_killed_run_is_resumed_to_the_same_end(kind, started, monkeypatch):
    started(kind)
    line, written = commands(kind)[1], []
    replace = os.replace

    def counted(source, target, **kwargs):
        written.append(target)
        replace(source, target, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', counted)
        typed(kind, line, '--work-dir', 'work_dirs/whole')
    half = len(written) // 2
    assert half > 1

    def killed():
        def deadly(source, target, **kwargs):
            written.append(target)
            if len(written) > half:
                die()
            replace(source, target, **kwargs)

        written.clear()
        os.replace = deadly
        typed(kind, line)

    run_in_fork(killed, code=-signal.SIGKILL)
    typed(kind, line, '--resume')
    cut, whole = read_results('work_dirs/config'), read_results('work_dirs/whole')
    assert cut['metrics'] == whole['metrics'] and cut['acc_matrix'] == whole['acc_matrix']
    assert of_own_module(kind, 'work_dirs/config') == of_own_module(kind, 'work_dirs/whole')
