import csv
import json

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from PIL import Image

from clear.core.errors import CheckpointError, ConfigError, DataError, RegistryError
from clear.engine.streams import over_time as program
from clear.engine.streams.over_time import RepresentationOverTime
from clear.engine.streams.over_time_keys import find_checkpoints, newest
from clear.engine.streams.over_time_table import format_results, matrix_metrics

ENCODER = dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
               neck=dict(type='GlobalAveragePooling'),
               preprocess=dict(resize=16, crop=16))


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    """Three buckets of random images on which brightness tells the class, and an encoder for each."""
    from clear.models.towers.image import build_encoder

    torch.set_num_threads(1)
    root = write_clear_tree(tmp_path_factory.mktemp('stream') / 'tree', num_buckets=3, per_class=8)
    rng = np.random.default_rng(1)
    for path in sorted(root.rglob('*.jpg')):
        bucket, label = int(path.stem[0]), int(path.stem[1:3])
        noise = rng.integers(0, 150, (16, 16, 3)) + 40 * ((label + bucket) % 3)
        Image.fromarray(noise.astype(np.uint8)).save(path)
    files = []
    for number in range(3):
        torch.manual_seed(number)
        encoder = build_encoder(ENCODER)
        for parameter in encoder.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        files.append(root.parent / f'{number}.pth')
        torch.save({'state_dict': encoder.model.state_dict()}, files[-1])
    return root, files


def config(stream, tmp_path, **changes):
    root, files = stream
    return {**dict(encoder=ENCODER, data=dict(type='CLEAR', data_root=str(root)),
                   checkpoints=[dict(path=str(path), through=str(number + 1)) for number, path in enumerate(files)],
                   tasks=[dict(type='KNN', k=3)], banks=dict(root=str(tmp_path / 'banks'), dtype='float32')), **changes}


def expected_matrix(stream, cfg, own_bucket):
    """By the encoder itself and scikit-learn, without banks."""
    from sklearn.neighbors import KNeighborsClassifier

    from clear.datasets import read_clear
    from clear.datasets.images.decode import decode_image
    from clear.models.towers.image import build_encoder

    root, files = stream
    data = read_clear(root, seed=0)
    matrix = []
    for row, path in enumerate(files):
        encoder = build_encoder({**cfg['encoder'], 'weights': str(path)})

        def features(bucket, encoder=encoder):
            images = [torch.from_numpy(np.array(decode_image(root / name))).permute(2, 0, 1) for name in bucket.paths]
            mean, std = torch.tensor(encoder.preprocess.mean), torch.tensor(encoder.preprocess.std)
            images = (torch.stack(images) / 255 - mean[:, None, None]) / std[:, None, None]
            return encoder(images.float()).numpy()

        values = []
        for column in range(3):
            train = data.train[row if own_bucket else column]
            peer = KNeighborsClassifier(3, metric='cosine', weights=lambda d: np.exp((1 - d) / 0.07))
            peer.fit(features(train), train.targets)
            values.append(peer.score(features(data.test[column]), data.test[column].targets))
        matrix.append(values)
    return matrix


def test_matrices_are_those_of_the_encoders_themselves(stream, tmp_path, drawn_figures):
    cfg = config(stream, tmp_path)
    results = RepresentationOverTime(cfg, tmp_path / 'run').run()
    for protocol, own_bucket in (('probe_per_bucket', False), ('probe_of_own_bucket', True)):
        found = results.extras['matrices'][f'KNN/{protocol}']
        assert np.allclose(found, expected_matrix(stream, cfg, own_bucket)), protocol
    matrix = results.acc_matrix
    assert len({value for row in matrix for value in row}) > 2
    assert results.metrics['KNN/probe_per_bucket/in_domain'] == pytest.approx(sum(matrix[i][i] for i in range(3)) / 3)
    assert results.metrics['KNN/probe_per_bucket/forward_transfer'] == pytest.approx(
        (matrix[0][1] + matrix[0][2] + matrix[1][2]) / 3)
    with (tmp_path / 'run' / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and float(rows[5]['top1']) == matrix[1][2]
    assert {path.name for path in (tmp_path / 'run' / 'figures').iterdir()} == {
        'KNN_probe_per_bucket.png', 'KNN_probe_of_own_bucket.png'}
    assert 'next_domain' in format_results(results) and 'not defined' not in format_results(results)


def test_a_run_that_was_stopped_keeps_what_is_finished(stream, tmp_path, monkeypatch):
    cfg = config(stream, tmp_path, tasks=[dict(type='KNN', k=3), dict(type='NearestClassMean')])
    whole = RepresentationOverTime(cfg, tmp_path / 'whole').run()
    score, calls = program.score_task, []

    def stopping(*args):
        calls.append(args)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(program, 'score_task', stopping)
    with pytest.raises(KeyboardInterrupt):
        RepresentationOverTime(cfg, tmp_path / 'run').run()
    again = RepresentationOverTime(cfg, tmp_path / 'run').run()
    assert len(calls) == 8 + (3 * 2 * 3 - 7)  # three checkpoints, two tasks, three probes each; seven were finished
    assert (again.acc_matrix, again.metrics, again.extras) == (whole.acc_matrix, whole.metrics, whole.extras)
    stored = [json.loads((tmp_path / name / 'results.json').read_text()) for name in ('whole', 'run')]
    assert all(each.pop('timing') for each in stored) and stored[0] == stored[1]


def test_other_weights_behind_the_same_path_are_measured_again(stream, tmp_path):
    root, files = stream
    path = tmp_path / 'encoder.pth'
    matrices = []
    for source in (files[0], files[1], files[0]):
        path.write_bytes(source.read_bytes())
        cfg = config(stream, tmp_path, checkpoints=[dict(path=str(path), through='1')])
        matrices.append(RepresentationOverTime(cfg, tmp_path / 'run').run().acc_matrix)
    assert matrices[0] == matrices[2] != matrices[1]


def test_metrics_that_lack_a_checkpoint_are_not_defined(stream, tmp_path):
    root, files = stream
    rows = [dict(path=None), dict(path=str(files[0]), through='1'), dict(path=str(files[1]), through='2'),
            dict(path=str(files[2]), through='0')]
    cfg = config(stream, tmp_path, checkpoints=rows, buckets=[1, 2, 3])
    results = RepresentationOverTime(cfg, tmp_path / 'run').run()
    assert [row['name'] for row in results.extras['checkpoints']] == ['random', 'bucket 1', 'bucket 2', 'bucket 0']
    matrix = results.acc_matrix
    # Above the diagonal there is nothing in the row of the last bucket, so this one is defined all the same.
    assert results.metrics['KNN/probe_per_bucket/next_domain'] == pytest.approx((matrix[1][1] + matrix[2][2]) / 2)
    undefined = results.extras['undefined']['KNN/probe_per_bucket']
    assert 'in_domain' in undefined and 'next_domain' not in undefined
    assert undefined['in_domain'] == 'no checkpoint was trained through bucket 3'
    own = results.extras['matrices']['KNN/probe_of_own_bucket']
    assert own[0] == own[3] == [None] * 3 and None not in own[1]
    assert 'not defined: in_domain' in format_results(results)


def test_two_checkpoints_of_one_bucket_leave_the_metrics_open():
    values, reasons = matrix_metrics([[0.1, 0.2], [0.3, 0.4]], [1, 1], ['a', 'b'])
    assert set(values.values()) == {None} and '2 checkpoints' in reasons['in_domain']


def test_checkpoints_of_a_run_over_buckets_come_in_order(tmp_path):
    for name, epochs in (('10', [1, 2, 10]), ('2', [3]), ('9', [])):
        folder = tmp_path / f'bucket_{name}'
        folder.mkdir()
        for epoch in epochs:
            (folder / f'epoch_{epoch}.pth').touch()
    assert newest(tmp_path / 'bucket_10').name == 'epoch_10.pth'
    with pytest.raises(CheckpointError, match=r'1 of 3 checkpoints do not exist: .*bucket_9/latest.pth'):
        find_checkpoints(str(tmp_path))
    (tmp_path / 'bucket_9' / 'latest.pth').touch()
    assert [each.through for each in find_checkpoints(str(tmp_path))] == ['2', '9', '10']
    with pytest.raises(CheckpointError, match='no folder bucket_'):
        find_checkpoints(str(tmp_path / 'bucket_9'))


@pytest.mark.parametrize('changes, error, message', [
    (dict(checkpoints=['a/b.pth', dict(path='c.pth', through=2)]), CheckpointError, '2 of 2 checkpoints do not exist'),
    (dict(checkpoints=[]), ConfigError, 'checkpoints is'),
    (dict(checkpoints=[dict(path=None), dict(path=None)]), ConfigError, "called 'random'"),
    (dict(checkpoints=[dict(path=None, trough='1')]), ConfigError, "Did you mean 'through'"),
    (dict(buckets=['1', '7']), DataError, "no bucket '7'; it has 1, 2, 3"),
    (dict(tasks=[dict(type='KNN'), dict(type='KNN', k=3)]), ConfigError, "Two tasks are called 'KNN'"),
    (dict(tasks=[dict(type='VOC07Linear', data_root='x')]), ConfigError, r'tasks\[0\]: VOC07Linear needs images'),
    (dict(tasks=[dict(type='KNN'), dict(type='KNN', name='b', neighbours=3)]), ConfigError, r"tasks\[1\].*no key 'nei"),
    (dict(tasks=[dict(type='KN')]), RegistryError, "'KNN'"),
    (dict(tasks=[dict(type=['KNN'])]), RegistryError, 'a type is a name'),
    (dict(tasks=[dict(type='KNN', k=0)]), ConfigError, 'k is 0'),
    (dict(protocols=['own']), ConfigError, 'probe_of_own_bucket'),
    (dict(data=dict(type='CLEAR', data_rot='x')), ConfigError, "Did you mean 'data_root'"),
    (dict(encoder=None), ConfigError, 'encoder is None'),
    (dict(protocol='x'), ConfigError, "Did you mean 'protocols'"),
    (dict(threads='two'), ConfigError, "threads is 'two'"),
    (dict(checkpoints=[dict(path=['a.pth'])]), ConfigError, 'checkpoints: path is'),
    (dict(checkpoints=[dict(path=None, name=3.5)]), ConfigError, 'checkpoints: 3.5 is no name'),
    (dict(data=dict(type=['CLEAR'])), ConfigError, 'data.type is'),
])
def test_wrong_configs_are_refused_before_anything_is_encoded(changes, error, message, stream, tmp_path):
    cfg = config(stream, tmp_path, **{'checkpoints': [dict(path=None)], **changes})
    with pytest.raises(error, match=message):
        RepresentationOverTime(cfg, tmp_path / 'run')
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_network_is_refused_and_what_was_done_is_kept(stream, tmp_path):
    root, files = stream
    torch.save({'weight': torch.zeros(3)}, tmp_path / 'other.pth')
    rows = [dict(path=str(files[0]), through='1'), dict(path=str(tmp_path / 'other.pth'), through='2')]
    with pytest.raises(CheckpointError, match=r'other\.pth'):
        RepresentationOverTime(config(stream, tmp_path, checkpoints=rows), tmp_path / 'run').run()
    kept = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert None not in kept['acc_matrix'][0] and kept['acc_matrix'][1] == [None] * 3
