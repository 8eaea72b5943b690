"""The image-level suite of ViRB end to end on miniature copies of its data, one of them with an unreadable frame."""

import csv
from pathlib import Path

import pytest
from virb_trees import (
    write_caltech,
    write_cifar100,
    write_class_folders,
    write_clevr,
    write_imagenet_v2,
    write_kinetics,
    write_nuscenes,
    write_thor_egomotion,
    write_thor_num_steps,
)

from clear.core.config import configs_folder, load_config
from clear.core.files import read_json
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import ProbeRunner

SUITES = configs_folder() / 'probing' / 'suites'
ENCODERS = dict(net=dict(type='TorchvisionEncoder', arch='resnet18',
                         preprocess=dict(resize=32, crop=32, squash=True)))
SEMANTIC = {'imagenet', 'imagenetv2', 'pets', 'caltech101', 'cifar100', 'sun397', 'eurosat', 'dtd', 'kinetics_action',
            'pets_deeplab', 'dtd_deeplab'}
STRUCTURAL = {'nuscenes_egomotion', 'thor_egomotion', 'thor_num_steps', 'clevr_num_objects', 'clevr_dist'}


def write_all(root):
    """Every folder of the suite, as they lie below `data/`: some three images of a class."""
    for name, splits in dict(imagenet=('train', 'val'), pets=('train', 'test'), SUN397=('train', 'test'),
                             eurosat=('train', 'test'), dtd=('train', 'test')).items():
        write_class_folders(root / name, ['a', 'b'], dict(zip(splits, (4, 2))))
    write_imagenet_v2(root / 'imagenetv2', [0, 1], 2)
    paths = [f'{name}/image_{number:04}.jpg' for name in 'ab' for number in range(1, 6)]
    write_caltech(root / 'caltech-101', dict(a=5, b=5), dict(train=paths[:4] + paths[5:9], test=[paths[4], paths[9]]))
    write_cifar100(root / 'cifar-100', dict(train=[1, 2] * 4, test=[2, 1]))
    write_kinetics(root / 'kinetics400', dict(train={f'v{number}': ('ab'[number % 2], 6) for number in range(8)},
                                              validate={'w0': ('a', 7), 'w1': ('b', 6)}))
    write_nuscenes(root / 'nuScenes', {
        split: [(f'samples/{split}{number}.jpg', f'samples/{split}{number + 1}.jpg', number % 2)
                for number in range(count)] for split, count in (('train', 8), ('test', 2))})
    actions = ['MoveAhead', 'LookDown']
    write_thor_egomotion(root / 'thor_action_prediction', {
        split: [(f'{split}/{number}', actions[number % 2]) for number in range(count)]
        for split, count in (('train', 8), ('val', 2))})
    write_thor_num_steps(root / 'thor_num_steps', {
        split: [(f'{split}/s/{number}', number % 2) for number in range(count)]
        for split, count in (('train', 8), ('val', 2))})
    write_clevr(root / 'CLEVR', {
        split: [(f'CLEVR_{split}_{number}.png', [(number % 2, 1, 1)] * (1 + number % 2)) for number in range(count)]
        for split, count in (('train', 8), ('val', 2))})
    return root


def config(suite, root, **options):
    return dict(device='cpu', threads=1, encoders=ENCODERS, banks=dict(root='banks', max_bad_fraction=0.1),
                tasks=[dict(suite=str(SUITES / suite), data_root=str(root), options=options)])


def test_the_suite_has_every_task_with_its_class():
    tasks = {task['name']: task for task in with_defaults(load_config(SUITES / 'image_level.py')[0])['tasks']}
    assert {*tasks} == SEMANTIC | STRUCTURAL
    assert {name for name, task in tasks.items() if task['kind'] == 'structural'} == STRUCTURAL
    assert {task['level'] for task in tasks.values()} == {'image'}
    assert all(task['data']['test'].get('root', '').startswith('data/') for task in tasks.values())


@pytest.mark.parametrize('suite', ['image_level.py', 'exemplar.py'])
def test_a_shipped_suite_is_a_config_that_can_be_run(suite):
    check_probe_config(with_defaults(load_config(SUITES / suite)[0]))


def test_every_task_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    write_all(Path('mini'))
    Path('mini/kinetics400/train/v0/v0_3.jpg').write_bytes(b'no image')
    cfg = config('image_level.py', 'mini', epochs=2, seeds=1)
    ProbeRunner(cfg, Path('work')).run()
    found = read_json(Path('work/results.json'))
    with Path('work/results.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['metric'] == 'top1']
    assert {row['task'] for row in rows} == SEMANTIC | STRUCTURAL
    assert all(0 <= float(row['value']) <= 1 for row in rows)
    sizes = {row['task']: (int(row['n_train']), int(row['n_test'])) for row in rows}
    # Of eight training samples two are for validation; of a clip with an unreadable frame nothing is left.
    assert sizes.pop('kinetics_action') == (5, 2) and sizes.pop('imagenetv2')[1] == 4
    assert {task: size for task, size in sizes.items() if task in STRUCTURAL} == dict.fromkeys(STRUCTURAL, (6, 2))
    assert found['metrics']
