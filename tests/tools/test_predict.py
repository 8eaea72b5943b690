"""`tools/predict.py`: classes of single images, as the model gives them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from PIL import Image
from short_runs import IMAGE_CONFIG, listed, run, train, write_config

from clear.core.results import Results, write_results
from clear.engine.prediction.class_names import class_names_of
from clear.models import build_classifier

MODEL = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=3, in_channels=120))
NAMES = ['BACKGROUND', 'field hockey', 'bus']


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'images', per_class=10, num_buckets=2, image_size=32)


@pytest.fixture
def config(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config('config.py', IMAGE_CONFIG, tree)


def by_hand(checkpoint, path):
    """Scores from the weights and the pixels, without our reader and transforms."""
    model = build_classifier(MODEL).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    pixels = np.asarray(Image.open(path).convert('RGB'), dtype=np.float64)
    grey = np.floor(pixels @ [0.2989, 0.587, 0.114])  # PIL and torchvision round a little differently
    with torch.no_grad():
        return model(torch.from_numpy(grey / 255).float()[None, None]).softmax(1)[0]


def test_scores_are_those_of_the_model(config, tree):
    train(config, '--work-dir', 'run', '--cfg-options', 'cl_strategy.train_epochs=3')
    paths = [tree / path for path in listed(tree, '1', 'test')[:3]]
    finished = run('predict', config, 'run/latest.pth', *paths)
    assert finished.code == 0 and not finished.err
    lines = finished.out.splitlines()
    assert len(lines) == 3
    for line, path in zip(lines, paths):
        assert line.startswith(f'{path}  ')
        found = {name: float(score) for name, score in
                 (part.rsplit(' ', 1) for part in line.removeprefix(f'{path}  ').split('  '))}
        assert set(found) == set(NAMES) and sum(found.values()) == pytest.approx(1, abs=0.002)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        expected = by_hand('run/latest.pth', path)
        # One grey level is 0.004, and the weights are small: far less than the figures printed.
        assert [found[name] for name in NAMES] == pytest.approx(expected.tolist(), abs=0.003)


def test_top_limits_the_classes(config, tree):
    train(config, '--work-dir', 'run')
    path = tree / listed(tree, '1', 'test')[0]
    [line] = run('predict', config, 'run/latest.pth', path, '--top', 1).out.splitlines()
    assert len(line.removeprefix(f'{path}  ').split('  ')) == 1


def names_in(finished):
    return {part.rsplit(' ', 1)[0] for part in finished.out.splitlines()[-1].split('  ')[1:]}


def test_classes_without_the_data_have_the_names_of_the_run(config, tree):
    train(config, '--work-dir', 'run')
    image, elsewhere = tree / listed(tree, '1', 'test')[0], ('--cfg-options', 'scenario.data_root=elsewhere')
    assert names_in(run('predict', config, 'run/latest.pth', image, *elsewhere)) == set(NAMES)
    # A checkpoint that was carried away from its run, without the data: numbers.
    Path('away').mkdir()
    shutil.copy('run/latest.pth', 'away')
    finished = run('predict', config, 'away/latest.pth', image, *elsewhere)
    assert names_in(finished) == {'0', '1', '2'} and 'called by their place' in finished.out + finished.err
    assert names_in(run('predict', config, 'away/latest.pth', image)) == set(NAMES)


def test_class_names_are_those_of_the_folders(tmp_path, monkeypatch):
    # Sorted as text '10' comes before '2': a place is no name.
    monkeypatch.setattr('clear.core.logs.logger.propagate', True)
    for name in ('1', '2', '10'):
        for number in range(4):
            path = tmp_path / 'data' / str(2010 + number // 2) / name / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (8, 8)).save(path)
    to_tensor = [dict(type='ToTensor')]
    scenario = dict(type='FolderByTime', data_root=str(tmp_path / 'data'), train_transform=to_tensor,
                    eval_transform=to_tensor)
    assert class_names_of(dict(scenario=scenario), tmp_path / 'latest.pth', 3) == ['1', '10', '2']
    assert class_names_of(dict(scenario=scenario), tmp_path / 'latest.pth', 4) == ['0', '1', '2', '3']
    write_results(tmp_path / 'results.json', Results('a', 'ContinualRunner', 'clear/iid/v1',
                                                     extras=dict(class_names=['a', 'b', 'c'])))
    assert class_names_of(dict(scenario=scenario), tmp_path / 'latest.pth', 3) == ['a', 'b', 'c']


def test_what_cannot_be_classified_is_refused(config, tree):
    train(config, '--work-dir', 'run')
    Path('text.jpg').write_text('no image')
    for arguments, words in [
        (['config.py', 'run/latest.pth', 'gone.jpg'], 'No such image: gone.jpg'),
        (['config.py', 'run/latest.pth', 'text.jpg'], 'text.jpg cannot be read as an image'),
        (['config.py', 'gone.pth', tree / listed(tree, '1', 'test')[0]], 'gone.pth does not exist'),
    ]:
        finished = run('predict', *arguments)
        assert finished.code == 2 and finished.err.startswith('error: ') and words in finished.err
        assert len(finished.err.splitlines()) == 1
    finished = run('predict', 'config.py', 'run/latest.pth', tree, '--cfg-options', 'scenario.eval_transform=None')
    assert finished.code == 2 and 'eval_transform' in finished.err
