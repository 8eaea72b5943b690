"""A path that is not what a program needs, to read or to write: one message, exit code 2, and nothing is changed."""

from pathlib import Path

import pytest
from short_runs import CONFIGS, run

READ = {  # the wrong path is '@': absent, a file of another kind, or an empty folder
    'dataset_converters/check_clear': ['@'],
    'dataset_converters/convert_features': ['@', 'out', '--to', 'bank', '--feature-type', 'x'],
    'dataset_converters/create_dataset': ['@', 'out'],
    'dataset_converters/make_shards': ['@', 'out'],
    'dataset_converters/make_splits': ['@'],
    'dataset_converters/make_virb_data': ['dtd', '@', 'out'],
    'dataset_converters/merge_clear': ['@', '@', 'out'],
    'dataset_converters/prompt_tables': ['@', '--out', 'out.json'],
    'dataset_converters/virb_yaml': ['--virb_configs', '@', '--name', 'x', '--encoder_weights', '@'],
    'analysis_tools/analyze_logs': ['plot_curve', '@', '--keys', 'loss', '--out', 'out.png'],
    'analysis_tools/compare_runs': ['@', '@'],
    'analysis_tools/elevater_submission': ['combine', '@'],
    'analysis_tools/evaluate_checkpoints': ['@'],
    'analysis_tools/leak_guard': ['@', '--against', '@', '--out', 'out'],
    'analysis_tools/make_report': ['@'],
    'analysis_tools/probing_figures': ['@', '--out', 'out'],
    'curation/convert_legacy': ['export', '@', '--out', 'out'],
    'curation/review': ['read', '@', 'x.csv'],
    'curation/verify_features': ['@', '--encoder', '@', '--images', '@'],
    'visualization/browse_dataset': ['@'],
    'model_converters/convert_weights': ['@', 'out.pth'],
    'model_converters/publish_model': ['@', 'out.pth'],
    'extract_features': ['@'],
}
WRITE = [  # '@' lies below a file, or is one where a folder is expected, or a folder where a file is
    ('dataset_converters/caption_positives', ['@'], ['notes.txt', 'notes.txt/new']),
    ('dataset_converters/make_demo_clear', ['@'], ['notes.txt', 'notes.txt/new']),
    ('dataset_converters/make_text_toy', ['@'], ['notes.txt', 'notes.txt/new']),
    ('dataset_converters/download_clear', ['clear10', '@', '--mirror', 'file:///nowhere'], ['notes.txt']),
    ('curation/make_demo_stream', ['@'], ['notes.txt', 'notes.txt/new']),
    ('visualization/vis_scheduler', [CONFIGS / 'selfsup' / 'mocov2_resnet18_1xb64-cos-4e_demo.py', '-d', 100, '--out',
                                     '@'], ['notes.txt/new.png', 'empty.png']),
    ('train', [CONFIGS / 'demo' / 'naive_lenet5_demo.py', '--work-dir', '@'], ['notes.txt', 'notes.txt/new']),
    ('init', ['@'], ['notes.txt', 'notes.txt/new']),
]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('notes.txt').write_text('hello\n')
    for name in ('empty', 'empty.png'):
        Path(name).mkdir()


def refused(program, arguments, path):
    before = {each: each.read_bytes() if each.is_file() else None for each in Path().rglob('*')}
    finished = run(program, *[path if each == '@' else each for each in arguments])
    assert finished.code == 2, finished
    [line] = finished.err.splitlines()
    assert line.startswith('error: ')
    assert {each: each.read_bytes() if each.is_file() else None for each in Path().rglob('*')} == before
    return line


@pytest.mark.parametrize('path', ['nowhere/data', 'notes.txt', 'empty'])
@pytest.mark.parametrize('program', READ)
def test_what_is_to_be_read(program, path):
    line = refused(program, READ[program], path)
    assert Path(path).name in line
    assert path != 'notes.txt' or 'notes.txt does not exist' not in line
    assert program.rpartition('/')[2] not in line  # it helps nobody to call it again


@pytest.mark.parametrize('program, arguments, path', [(program, arguments, path) for program, arguments, paths in WRITE
                                                      for path in paths])
def test_what_is_to_be_written(program, arguments, path):
    line = refused(program, arguments, path)
    assert Path(path).parts[0] in line and 'Make its folder writable' not in line
