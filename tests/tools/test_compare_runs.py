import csv
import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from clear.continual.metrics import clear_metrics, overlap_mask
from clear.core.results import Results, read_results, write_results

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools'
MATRIX = [[0.5, 0.25], [1.0, 0.75]]


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


compare_runs, make_report = load('compare_runs'), load('make_report')


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(folder, name='naive', seed=0, protocol='iid', matrix=MATRIX):
    write_results(Path(folder) / 'results.json', Results(
        name=name, runner='ContinualRunner', protocol=f'clear/{protocol}/v1', metrics=clear_metrics(matrix, protocol),
        acc_matrix=matrix, overlap_mask=overlap_mask(2, protocol), seeds={'train': seed}))
    return str(folder)


def table_row(text, run):
    return next(line for line in text.splitlines() if line.startswith(run + ' '))


def test_repeats_become_mean_and_spread(capsys, tmp_path):
    runs = [save('a', seed=0), save('b', seed=1, matrix=[[0.7, 0.25], [1.0, 0.75]]), save('c', 'ewc') + '/results.json']
    assert compare_runs([*runs, '--out', 'out']) == 0
    text = capsys.readouterr().out
    assert '0.675 ± 0.071 (2)' in table_row(text, 'naive')
    assert '±' not in table_row(text, 'ewc') and '0.625' in table_row(text, 'ewc')
    written = ['comparison.csv', 'comparison.md', 'comparison.tex', 'metrics_clear-iid-v1.png',
               'next_domain_clear-iid-v1.png', 'report.html']
    assert sorted(path.name for path in Path('out').iterdir()) == written
    assert all(f'wrote out/{name}' in text for name in written)


def test_numbers_go_into_tables_for_other_programs():
    save('a', seed=0)
    save('b', seed=1, matrix=[[0.7, 0.25], [1.0, 0.75]])
    own = read_results(save('c', 'e_w&c|', 2) + '/results.json')
    own.metrics['own'] = 12.5
    write_results('c/results.json', own)
    assert compare_runs(['a', 'b', 'c', '--out', 'out']) == 0
    rows = csv.DictReader(Path('out/comparison.csv').read_text().splitlines())
    found = {(row['run'], row['metric']): row for row in rows}
    naive = found['naive', 'in_domain']
    assert (float(naive['mean']), float(naive['std']), naive['n'], naive['measures_training_data']) == (
        pytest.approx(0.675), pytest.approx(0.05 * 2 ** 0.5), '2', 'False')
    assert found['e_w&c|', 'own']['mean'] == '12.5' and ('naive', 'own') not in found
    lines = Path('out/comparison.md').read_text().splitlines()
    assert lines[2] == r'| metric | naive | e_w&c\| |' and '| own | - | 12.500 |' in lines
    text = Path('out/comparison.tex').read_text()
    assert r'metric & naive & e\_w\&c| \\' in text and r'in\_domain & 0.675 $\pm$ 0.071 (2) & 0.625 \\' in text
    assert r'own & -- & 12.500 \\' in text and text.count(r'\begin{tabular}{lrr}') == 1


def test_a_folder_of_seeds_stands_for_its_runs(capsys):
    for seed in (0, 1, 10):
        save(f'five/seed_{seed}', seed=seed, matrix=[[0.5 + seed / 100, 0.25], [1.0, 0.75]])
        save(f'other/seed_{seed}', seed=seed)
    assert compare_runs(['five', 'other', '--dry-run']) == 0
    text = capsys.readouterr().out
    assert '0.643 ± 0.028 (3)' in table_row(text, 'naive (five)')
    assert '0.625 ± 0.000 (3)' in table_row(text, 'naive (other)')
    assert compare_runs(['five', '--group-by', 'none', '--dry-run']) == 0
    names = [line.split('  ')[0] for line in capsys.readouterr().out.splitlines() if line.startswith('naive')]
    assert names[:3] == ['naive (five/seed_0)', 'naive (five/seed_1)', 'naive (five/seed_10)']


def test_seeds_that_the_summary_does_not_tell_of_are_left_out(capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    for seed in (0, 1, 2):
        save(f'three/seed_{seed}', seed=seed, matrix=[[0.5 + seed / 10, 0.25], [1.0, 0.75]])
    Path('three/summary.json').write_text('{"seeds": [0, 1]}')
    assert compare_runs(['three', '--dry-run']) == 0
    assert '0.650 ± 0.035 (2)' in table_row(capsys.readouterr().out, 'naive')
    assert 'three: seed_2 left out' in caplog.text


def test_a_sweep_stands_for_a_group_per_value(capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    entries = []
    for lr in (0.1, 0.01):
        for seed in (0, 1):
            save(f'sweep/lr_{lr}/seed_{seed}', seed=seed)
        entries.append(dict(values={'cl_strategy.optimizer.lr': lr}, folder=f'/moved/since/lr_{lr}', metrics={}))
    entries.append(dict(values={'cl_strategy.optimizer.lr': 9.0}, folder='lr_9.0', metrics={}, error='it diverged'))
    Path('sweep/summary.json').write_text(json.dumps(dict(name='naive', sweep=entries)))
    with caplog.at_level(logging.WARNING, 'clear'):
        assert compare_runs(['sweep', '--dry-run']) == 0
    assert caplog.messages == ['sweep/lr_9.0 is left out: it diverged']
    text = capsys.readouterr().out
    assert '(2)' in table_row(text, 'naive lr=0.1') and '(2)' in table_row(text, 'naive lr=0.01')
    for damaged, message in ((3, 'no summary of a sweep'), (dict(values={}, folder='..'), 'names .., which is not in'),
                             (dict(values={}, folder='gone'), 'names gone')):
        Path('sweep/summary.json').write_text(json.dumps(dict(sweep=[damaged])))
        assert compare_runs(['sweep', '--dry-run']) == 2
        assert message in capsys.readouterr().err


def test_other_data_is_said(capsys):
    for name in 'ab':
        results = read_results(save(name, name) + '/results.json')
        results.extras['data_fingerprint'] = name * 20
        write_results(f'{name}/results.json', results)
    assert compare_runs(['a', 'b', '--dry-run']) == 0
    told = 'different data, so their numbers do not compare (aaaaaaaaaaaa: a; bbbbbbbbbbbb: b)'
    assert told in capsys.readouterr().out


def test_runs_of_every_runner_have_a_part(capsys):
    save('a')
    for name, runner, protocol, metrics in (('b', 'Runner', 'training/v1', dict(loss=1.5)),
                                            ('c', 'ProbeRunner', 'clear/probe/v1', {'x/knn/top1': 0.25})):
        write_results(f'{name}/results.json', Results(name=name, runner=runner, protocol=protocol, metrics=metrics))
    assert compare_runs(['a', 'b', 'c', '--out', 'out']) == 0
    text = capsys.readouterr().out
    assert text.startswith('These runs follow different protocols')
    assert '1.500' in table_row(text, 'b') and '0.250' in table_row(text, 'c')


def test_ungrouped_runs_have_a_row_each(capsys):
    assert compare_runs([save('a'), save('b'), '--group-by', 'none', '--dry-run']) == 0
    text = capsys.readouterr().out
    assert 'naive (a)' in text and 'naive (b)' in text and '±' not in text
    assert not Path('compare').exists()


def test_protocols_never_share_a_table(capsys):
    assert compare_runs([save('a'), save('b', protocol='streaming'), '--dry-run']) == 0
    text = capsys.readouterr().out
    assert 'not comparable' in text.splitlines()[0]
    iid, streaming = text.split('protocol clear/streaming/v1')
    assert 'protocol clear/iid/v1' in iid and '0.625' in iid
    headline, overlapped = streaming.split('measures training data')
    assert '0.625' not in headline and '0.625' in overlapped


def test_unfinished_runs_are_shown_and_marked(capsys):
    assert compare_runs([save('a'), save('b', 'ewc', matrix=[[0.5, 0.25], [None, None]]), '--dry-run']) == 0
    assert '1 of 2 (unfinished)' in table_row(capsys.readouterr().out, 'ewc')


def test_figures_go_to_compare_by_default(drawn_figures):
    assert compare_runs([save('a')]) == 0
    assert Path('compare/report.html').is_file()


@pytest.mark.parametrize('arguments, message', [
    (['nowhere'], 'nowhere does not exist'),
    (['empty'], 'empty/results.json does not exist'),
    (['broken'], 'is no valid JSON'),
    (['good', 'same'], "the same name 'naive' and the same seeds"),
    (['good', 'good/results.json'], 'named twice'),
    (['good', '--out', 'file'], '--out file is a file'),
])
def test_a_user_error_is_one_line_and_code_2(arguments, message, capsys):
    save('good')
    save('same')
    for name in ('empty', 'broken'):
        Path(name).mkdir()
    Path('broken/results.json').write_text('{')
    Path('file').touch()
    assert compare_runs(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1 and message in captured.err
    assert captured.out == '' and not Path('compare').exists()


def test_make_report_redraws_beside_the_results(capsys, drawn_figures):
    assert make_report([save('run', protocol='streaming')]) == 0
    assert sorted(str(path) for path in Path('run').rglob('*.*')) == [
        'run/figures/accuracy_matrix.png', 'run/figures/accuracy_over_time.png', 'run/figures/forgetting.png',
        'run/report.html', 'run/results.json']
    text = capsys.readouterr().out
    assert 'next_domain 0.250' in text and 'train_overlap in_domain 0.625 (measures training data)' in text
    assert 'wrote run/report.html' in text


def test_make_report_writes_where_it_is_told(capsys):
    run = save('run')
    assert make_report([run + '/results.json', '--out', 'other', '--dry-run']) == 0
    assert not Path('other').exists()
    assert make_report([run, '--out', 'other']) == 0
    assert Path('other/report.html').is_file() and not Path('run/report.html').exists()


@pytest.mark.parametrize('arguments', [['nowhere'], ['run', '--out', 'run/results.json']])
def test_make_report_names_what_is_wrong(arguments, capsys):
    save('run')
    assert make_report(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1


@pytest.mark.parametrize('tool', ['compare_runs', 'make_report'])
def test_help_imports_nothing_heavy(tool):
    code = ('import runpy, sys\nsys.argv = ["tool", "--help"]\ntry:\n'
            f'    runpy.run_path({str(TOOLS / (tool + ".py"))!r}, run_name="__main__")\n'
            'finally:\n    heavy = {"torch", "numpy", "mmengine", "matplotlib", "avalanche"} & set(sys.modules)\n'
            '    print("heavy:", sorted(heavy))\n')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0
    assert 'example:' in done.stdout and 'heavy: []' in done.stdout
