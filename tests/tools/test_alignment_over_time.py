"""Shipped streams of pairs over five buckets: their matrices are printed, they are resumed and branched from."""

import pytest
from demo_recipes import enter
from PIL import Image
from short_runs import CONFIGS, read_results, run, train

from clear.core.files import read_json
from clear.datasets.make.demo import write_demo

FOLDERS = ['bucket_1', 'bucket_10', 'bucket_3', 'bucket_5', 'bucket_8']
SHORT = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.sampler.episode_size=64',
         'default_hooks.results.type=ResultsHook', 'default_hooks.results.figures=False',
         'stream.evaluation.tasks.1.ks=[5,10]']  # of 26 images


def recipe(name):
    return CONFIGS / 'alignment' / f'continual_clip-{name}_tiny-vit_1xb64-cos-6e_demo.py'


def printed(out, name):
    """Rows of a printed matrix, as text."""
    lines = out.split(f'{name}/each_bucket: rows = encoders, columns = tested on bucket\n')[-1].splitlines()
    assert lines[0].split() == ['1', '3', '5', '8', '10']
    return [line.split()[2:] for line in lines[1:6]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_buckets_print_their_matrices_resume_and_branch(tmp_path, monkeypatch, drawn_figures):
    write_demo(tmp_path / 'demo', seeds=[0], limit=100)
    enter(tmp_path / 'here', tmp_path / 'demo', monkeypatch)
    out = train(recipe('finetune'), '--work-dir', 'first', *SHORT).out
    found = read_results('first')
    for name in ('zero_shot', 'retrieval'):
        matrix = found['extras']['matrices'][f'{name}/each_bucket']
        assert printed(out, name) == [[f'{value:.3f}' for value in row] for row in matrix]
        assert f'{name}/each_bucket' in found['extras']['undefined']
        with Image.open(f'first/figures/{name}_each_bucket.png') as picture:
            assert min(picture.size) > 400 and len(picture.convert('RGB').getcolors(1 << 24)) > 100
    assert 'forgetting' in out and 'next_domain' in out
    times = {name: (tmp_path / 'here/first' / name / 'latest.pth').stat().st_mtime_ns for name in FOLDERS}
    again = train(recipe('finetune'), '--work-dir', 'first', '--resume', *SHORT).out
    assert printed(again, 'retrieval') == printed(out, 'retrieval')
    assert times == {name: (tmp_path / 'here/first' / name / 'latest.pth').stat().st_mtime_ns for name in FOLDERS}
    out = train(recipe('exp'), '--work-dir', 'second', '--branch', 'first/bucket_5/latest.pth', *SHORT,
                'stream.replay_size=40').out
    assert printed(out, 'zero_shot')[:3] == printed(again, 'zero_shot')[:3]
    stored = read_json('second/stream.json')
    assert stored['branched_from']['changes'] == [
        "stream.mode: 'finetune' -> 'replay'", "stream.replay_shares: None -> 'halves'",
        'stream.replay_size: None -> 40']
    assert sorted(path.parent.name for path in (tmp_path / 'here/second').glob('*/latest.pth')) == [
        'bucket_10', 'bucket_5', 'bucket_8']
    refused = run('train', recipe('exp'), '--work-dir', 'third', '--branch', 'first/bucket_10/latest.pth', *SHORT)
    assert refused.code == 2 and 'nothing is left to train. Branch from an earlier checkpoint, e.g.' in refused.err
    assert not (tmp_path / 'here' / 'third').exists()
