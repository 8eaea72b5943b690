"""Avalanche's classic benchmarks by name, on small files in place of the downloads."""

import pickle
import socket

import fake_downloads as fake
import numpy as np
import pytest
import torch
from avalanche.benchmarks import classic
from torchvision.transforms import functional

from clear.continual.scenarios import TensorBucket, build_scenario, scenario_arguments
from clear.continual.scenarios.avalanche_classic import CLASSICS, REFUSED
from clear.continual.scenarios.classic_images import ExperienceImages
from clear.continual.scenarios.classic_repairs import load_plain_pickle
from clear.core.errors import ConfigError, DataError, RegistryError
from clear.engine.continual.keys import check_continual_config, with_defaults
from clear.engine.continual.runner import ContinualRunner

SMALL = [dict(type='Resize', size=[32, 32]), dict(type='ToTensor')]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whatever gets past the refusal fails here, and is not taken for missing data."""

    def refuse(*args):
        pytest.fail(f'the network was asked for {args[0]}')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


@pytest.fixture(scope='module')
def mnist(tmp_path_factory):
    return fake.write_mnist(tmp_path_factory.mktemp('mnist'))


def build(kind, root, **options):
    return build_scenario(dict(type=kind, data_root=str(root), **options))


def check(benchmark, protocol, num_classes, train, test):
    """Protocol, sizes, labels, and an image of each part that a model could take."""
    info = benchmark.info
    assert (info.protocol, info.num_classes) == (protocol, num_classes)
    assert [len(dataset) for dataset in info.train] == train and [len(dataset) for dataset in info.test] == test
    assert len(info.bucket_names) == len(train) and len(info.column_names) == len(test)
    assert [experience.current_experience for experience in benchmark.train_stream] == list(range(len(train)))
    for stream, datasets in ((benchmark.train_stream, info.train), (benchmark.test_stream, info.test)):
        for experience, dataset in zip(stream, datasets, strict=True):
            assert list(experience.dataset.targets) == dataset.targets
        image, target = datasets[0][0]
        assert isinstance(image, torch.Tensor) and image.is_floating_point() and target == datasets[0].targets[0]
    if protocol == 'class-incremental':
        own = [set(dataset.targets) for dataset in info.train]
        assert own == [set(dataset.targets) for dataset in info.test]
        assert sum(map(len, own)) == len(set().union(*own)) == sum(benchmark.n_classes_per_exp)
    return info


# Against Avalanche's own


def test_split_mnist_is_avalanches(mnist):
    stock = classic.SplitMNIST(5, seed=3, dataset_root=str(mnist))
    ours = build('SplitMNIST', mnist, n_experiences=5, seed=3)
    info = check(ours, 'class-incremental', 10, [12] * 5, [4] * 5)
    for part, stock_part in ((ours.train_stream, stock.train_stream), (ours.test_stream, stock.test_stream)):
        for one, other in zip(part, stock_part, strict=True):
            assert one.task_labels == other.task_labels == [0]
            for (x, y, _), (stock_x, stock_y, _) in zip(one.dataset, other.dataset, strict=True):
                assert torch.equal(x, stock_x) and y == stock_y
    assert ours.n_classes_per_exp == stock.n_classes_per_exp
    # Classes of an experience in ascending order here; Avalanche's list has them as they were drawn.
    pairs = [sorted(stock.classes_order[start:start + 2]) for start in range(0, 10, 2)]
    assert ours.classes_order == [label for pair in pairs for label in pair]
    assert info.bucket_names == ['-'.join(map(str, pair)) for pair in pairs]
    assert info.class_names[:2] == ['0 - zero', '1 - one']


def test_permutations_are_avalanches(mnist):
    stock = classic.PermutedMNIST(3, seed=1, dataset_root=str(mnist))
    ours = build('PermutedMNIST', mnist, n_experiences=3, seed=1, cache='ram')
    info = check(ours, 'domain-incremental', 10, [60] * 3, [20] * 3)
    assert all(isinstance(dataset, TensorBucket) for dataset in info.train + info.test)
    for dataset, experience in zip(info.train, stock.train_stream):
        assert torch.equal(dataset.inputs, torch.stack([x for x, *_ in experience.dataset]))


def test_rotations_turn_and_draw_nothing_from_training(mnist):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ours = build('RotatedMNIST', mnist, n_experiences=2, rotations_list=[0, 30], cache='ram')
    info = check(ours, 'domain-incremental', 10, [60] * 2, [20] * 2)
    plain = info.test[0].inputs * 0.3081 + 0.1307
    turned = torch.stack([functional.rotate(image, 30) for image in plain])
    assert torch.allclose(info.test[1].inputs * 0.3081 + 0.1307, turned, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_from_zero_in_each_experience_are_one_task_in_many_domains(mnist):
    ours = build('SplitMNIST', mnist, n_experiences=5, class_ids_from_zero_in_each_exp=True, return_task_id=True)
    info = check(ours, 'domain-incremental', 2, [12] * 5, [4] * 5)
    assert info.class_names == ['0', '1']
    assert [experience.task_labels for experience in ours.train_stream] == [[place] for place in range(5)]


def test_without_a_seed_the_order_of_classes_is_that_of_seed_0(mnist):
    prints = []
    for draws, options in ((1, {}), (2, {}), (3, dict(seed=0)), (4, dict(seed=1))):
        torch.manual_seed(draws)
        info = build('SplitMNIST', mnist, n_experiences=5, **options).info
        prints.append([dataset.targets for dataset in info.train])
    assert prints[0] == prints[1] == prints[2] != prints[3]


# Each of them


def cifar_both(root, monkeypatch):
    fake.write_cifar(root, monkeypatch)
    return fake.write_cifar(root, monkeypatch, 100)


BENCHMARKS = {
    'SplitFMNIST': (lambda root, _: fake.write_mnist(root, folder='FashionMNIST'), dict(n_experiences=2),
                    ('class-incremental', 10, [30] * 2, [10] * 2)),
    'SplitCIFAR10': (fake.write_cifar, dict(n_experiences=5), ('class-incremental', 10, [30] * 5, [2] * 5)),
    'SplitCIFAR100': (lambda root, patch: fake.write_cifar(root, patch, 100), dict(n_experiences=10),
                      ('class-incremental', 100, [30] * 10, [10] * 10)),
    'SplitCIFAR110': (cifar_both, dict(n_experiences=11),
                      ('class-incremental', 110, [150] + [30] * 10, [10] * 11)),
    'SplitTinyImageNet': (lambda root, _: fake.write_tiny_imagenet(root), dict(n_experiences=10),
                          ('class-incremental', 200, [40] * 10, [20] * 10)),
    'SplitCUB200': (lambda root, _: fake.write_cub200(root), {},
                    ('class-incremental', 200, [100] + [10] * 10, [100] + [10] * 10)),
    'SplitOmniglot': (fake.write_omniglot, dict(n_experiences=2), ('class-incremental', 4, [30] * 2, [10] * 2)),
    'SplitAlphabetOmniglot': (fake.write_omniglot, dict(n_experiences=2),
                              ('class-incremental', 4, [30] * 2, [10] * 2)),
    'OpenLORIS': (lambda root, _: fake.write_openloris(root), dict(train_transform=SMALL, eval_transform=SMALL),
                  ('one-test-set', 4, [4] * 9, [4])),
    'CLStream51': (lambda root, _: fake.write_stream51(root), {},
                   ('class-incremental', 51, [20] * 5 + [2], [10] * 5 + [1])),
    'EndlessCLSim': (lambda root, _: fake.write_endless(root), dict(scenario='Illumination'),
                     ('domain-incremental', 3, [6] * 2, [6] * 2))}


@pytest.mark.parametrize('kind', BENCHMARKS)
def test_benchmark(kind, tmp_path, monkeypatch):
    write, options, expected = BENCHMARKS[kind]
    root = write(tmp_path, monkeypatch)
    info = check(build(kind, root, **options), *expected)
    assert build(kind, root, **options).info.fingerprint == info.fingerprint


@pytest.mark.parametrize('scenario, folder, batches, expected', [
    ('nc', 'NC_inc', 9, ('class-incremental', 50, [10] + [5] * 8, [10] + [5] * 8)),
    ('ni', 'NI_inc', 8, ('one-test-set', 50, [50] * 8, [50]))])
def test_core50(tmp_path, scenario, folder, batches, expected):
    def classes_of(batch):
        if scenario == 'ni':
            return range(50)
        return range(10) if batch == 0 else range(5 + 5 * batch, 10 + 5 * batch)

    fake.write_core50(tmp_path, f'batches_filelists/{folder}', batches, classes_of)
    check(build('CORe50', tmp_path, scenario=scenario, mini=True), *expected)


def test_imagenet(monkeypatch, tmp_path):
    """Its archives are checked by their sums, so here the two data sets themselves are replaced."""
    from torchvision.datasets import FakeData

    def sets(root, meta_root=None):
        parts = [FakeData(size, (3, 8, 8), num_classes=20, random_offset=size) for size in (200, 100)]
        for part in parts:
            part.targets = [int(part[row][1]) for row in range(len(part))]
        return parts

    monkeypatch.setattr('avalanche.benchmarks.classic.cimagenet._get_imagenet_dataset', sets)
    info = build('SplitImageNet', tmp_path, n_experiences=10, train_transform=SMALL, eval_transform=SMALL).info
    assert info.protocol == 'class-incremental' and info.num_classes == 20
    assert sum(map(len, info.train)) == 200 and sum(map(len, info.test)) == 100


def test_every_classic_of_the_installed_avalanche_is_known():
    names = {name for name in dir(classic) if not name.startswith('_') and callable(getattr(classic, name))}
    assert names - {'CLEAR'} <= set(CLASSICS) | set(REFUSED)
    assert {*BENCHMARKS, 'SplitMNIST', 'PermutedMNIST', 'RotatedMNIST', 'CORe50', 'SplitImageNet',
            'SplitInaturalist'} == set(CLASSICS)


# Repairs


def test_drawings_of_a_character_are_in_one_part_each(tmp_path, monkeypatch):
    fake.write_omniglot(tmp_path, monkeypatch)
    info = build('SplitOmniglot', tmp_path, n_experiences=1).info
    assert np.bincount(info.train[0].targets).tolist() == [15] * 4
    assert np.bincount(info.test[0].targets).tolist() == [5] * 4
    # Their images: none is in both.
    rows = [{tuple(image.flatten().tolist()) for image, _ in part} for part in (info.train[0], info.test[0])]
    assert not rows[0] & rows[1] and list(map(len, rows)) == [60, 20]


def test_files_come_in_the_order_of_their_names(tmp_path):
    root = fake.write_tiny_imagenet(tmp_path)
    info = build('SplitTinyImageNet', root, n_experiences=1, shuffle=False, train_transform=SMALL,
                 eval_transform=SMALL).info
    folder = root / 'tiny-imagenet-200' / 'train' / 'n00000000' / 'images'
    first = functional.to_tensor(functional.resize(_picture(folder / 'n00000000_0.JPEG'), [32, 32]))
    assert (info.train[0][0][0] - first).abs().max() < 2 / 255


def _picture(path):
    from PIL import Image

    return Image.open(path).convert('RGB')


class _Evil:
    def __reduce__(self):
        return (print, ('run',))


def test_a_pickle_that_asks_for_code_is_refused(tmp_path, capsys):
    fake.write_core50(tmp_path, 'batches_filelists/NI_inc', 8, lambda batch: range(50))
    (tmp_path / 'paths.pkl').write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(DataError, match=r'CORe50|builtins.print'):
        build('CORe50', tmp_path, scenario='ni', mini=True)
    assert 'run' not in capsys.readouterr().out
    with (tmp_path / 'paths.pkl').open('rb') as file, pytest.raises(DataError, match='asks for builtins.print'):
        load_plain_pickle(file)


def test_bad_images_are_counted_and_replaced_in_training_only(tmp_path):
    root = fake.write_tiny_imagenet(tmp_path / 'data')
    folder = root / 'tiny-imagenet-200'
    for path in (folder / 'train/n00000003/images/n00000003_0.JPEG', folder / 'val/images/val_n00000003.JPEG'):
        path.write_bytes(b'')
    options = dict(n_experiences=10, shuffle=False, train_transform=SMALL, eval_transform=SMALL)
    info = build_scenario(dict(type='SplitTinyImageNet', data_root=str(root), **options), tmp_path / 'run').info
    image, target = info.train[0][6]  # two images of each class; the other one stands in
    assert torch.equal(image, info.train[0][7][0]) and target == 3
    with pytest.raises(DataError, match='0/test/3 cannot be read'):
        info.test[0][3]
    assert info.bad_samples.counts() == {'train': 1, 'test': 1}
    assert '"0/test/3"' in (tmp_path / 'run' / 'bad_samples.jsonl').read_text()
    kept = build('SplitTinyImageNet', root, cache='ram', max_bad_fraction=0.1, **options).info
    assert [len(dataset) for dataset in kept.test] == [19] + [20] * 9 and len(kept.train[0]) == 40


def test_draws_follow_from_seed_experience_and_epoch(tmp_path, monkeypatch):
    root = fake.write_cifar(tmp_path, monkeypatch)
    info = build('SplitCIFAR10', root, n_experiences=5, cache='ram').info  # its own transform crops and flips
    assert isinstance(info.train[0], ExperienceImages) and isinstance(info.test[0], TensorBucket)
    first = [info.train[0][row][0] for row in range(8)]
    np.random.seed(1)
    torch.manual_seed(1)
    assert all(torch.equal(image, info.train[0][row][0]) for row, image in enumerate(first))
    info.context.epoch = 1
    assert not all(torch.equal(image, info.train[0][row][0]) for row, image in enumerate(first))


# What cannot be


@pytest.mark.parametrize('kind', [kind for kind in CLASSICS if kind not in ('SplitInaturalist', 'SplitImageNet')])
def test_missing_data_are_named_and_not_fetched(kind, tmp_path):
    options = {key: 5 for key in ('n_experiences',) if key in scenario_arguments(kind)}
    with pytest.raises(DataError) as caught:
        build(kind, tmp_path / 'none', train_transform=SMALL, eval_transform=SMALL, **options)
    message = str(caught.value)
    assert kind in message and str(tmp_path / 'none') in message and 'scenario.download=True' in message
    assert not (tmp_path / 'none').exists()


def test_missing_packages_and_roots_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pycocotools', None)
    monkeypatch.setitem(__import__('sys').modules, 'pycocotools.coco', None)
    with pytest.raises(ConfigError, match='SplitInaturalist needs a package that is not installed: .*pycocotools'):
        build('SplitInaturalist', tmp_path)
    with pytest.raises(DataError, match='The data of SplitImageNet are not'):
        build('SplitImageNet', tmp_path / 'none')
    with pytest.raises(ConfigError, match='scenario.data_root is needed'):
        build_scenario(dict(type='SplitImageNet'))


def test_a_download_is_tried_only_when_asked_for(tmp_path, monkeypatch):
    asked = []

    def fetch(url, **_):
        asked.append(url)
        fake.write_mnist(tmp_path / 'new')

    monkeypatch.setattr('torchvision.datasets.mnist.download_and_extract_archive', fetch)
    build('SplitMNIST', tmp_path / 'new', n_experiences=5, download=True)
    assert len(asked) >= 1 and all('mnist' in url.lower() for url in asked)


@pytest.mark.parametrize('kind', sorted(REFUSED))
def test_benchmarks_that_no_single_head_can_learn_say_why(kind):
    with pytest.raises(ConfigError, match=f'{kind} cannot be trained on here: '):
        scenario_arguments(kind)
    with pytest.raises(ConfigError, match=f'{kind} cannot be trained on here: '):
        build_scenario(dict(type=kind))


@pytest.mark.parametrize('options, message', [
    (dict(n_experiences=5, n_experience=4), "no key 'n_experience'. Did you mean 'n_experiences'"),
    (dict(n_experiences=3), 'SplitMNIST'), (dict(), 'n_experiences'), (dict(n_experiences=5, cache='disk'), 'cache is'),
    (dict(n_experiences=5, eval_transform=[dict(type='Resise', size=3)]), 'Resise')])
def test_wrong_options_are_refused(mnist, options, message):
    with pytest.raises((ConfigError, RegistryError), match=message):
        build('SplitMNIST', mnist, **options)


def test_labelled_pixels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='labels pixels'):
        build('EndlessCLSim', tmp_path, semseg=True)
    with pytest.raises(ConfigError, match='OpenLORIS has no transform of its own'):
        build('OpenLORIS', tmp_path)


# Runs


def config(kind, root, num_classes, strategy='Naive', **options):
    grey = [dict(type='Resize', size=[32, 32]), dict(type='Normalize', mean=[0.3], std=[0.3])]
    return dict(
        scenario=dict(type=kind, data_root=str(root), cache='ram', train_transform=grey, eval_transform=grey,
                      **options),
        model=dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                   head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=120)),
        cl_strategy=dict(type=strategy, train_mb_size=10, train_epochs=4,
                         optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        loggers=[], metrics=[], device='cpu')


def test_class_incremental_run(mnist):
    cfg = config('SplitMNIST', mnist, 10, n_experiences=5, shuffle=False)
    cfg['cl_strategy']['train_epochs'] = 15
    runner = ContinualRunner(cfg)
    runner.build()
    results = runner.train()
    assert results.protocol == 'clear/class-incremental/v1' and len(results.acc_matrix) == 5
    assert results.extras['bucket_names'] == ['0-1', '2-3', '4-5', '6-7', '8-9']
    matrix = np.array(results.acc_matrix)
    # The logit of a class that nobody has shown may still win now and then.
    assert matrix[np.triu_indices(5, 1)].mean() < 0.1 and results.metrics['learning_accuracy'] > 0.6


def test_run_with_one_test_set(tmp_path):
    root = fake.write_openloris(tmp_path / 'data')
    cfg = config('OpenLORIS', root, 4)
    for key in ('train_transform', 'eval_transform'):
        cfg['scenario'][key] = [dict(type='Grayscale'), *SMALL]
    runner = ContinualRunner(cfg, tmp_path / 'run')
    runner.build()
    results = runner.train()
    assert results.protocol == 'clear/one-test-set/v1'
    assert np.array(results.acc_matrix).shape == (9, 1) and results.extras['bucket_names'] == ['test']
    assert results.metrics['final_accuracy'] == results.acc_matrix[-1][0]
    assert (tmp_path / 'run' / 'report.html').is_file()


def test_config_is_checked_before_data_are_read(tmp_path):
    cfg = config('SplitMNIST', tmp_path / 'none', 10, n_experiences=5)
    check_continual_config(with_defaults(cfg))
    cfg['scenario']['n_experience'] = 5
    with pytest.raises(ConfigError, match="scenario: SplitMNIST has no key 'n_experience'"):
        ContinualRunner(cfg)
    with pytest.raises(ConfigError, match='CTrL cannot be trained on here'):
        ContinualRunner({**cfg, 'scenario': dict(type='CTrL', stream_name='s_plus')})
    with pytest.raises(RegistryError, match="'SplitMNIST'"):
        ContinualRunner({**cfg, 'scenario': dict(type='SplitMNISTT')})
