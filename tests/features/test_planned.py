import numpy as np
import torch
from clear_trees import write_clear_tree
from tiny_encoder import TinyEncoder

from clear.datasets import read_clear, read_images
from clear.features import extract, join_bucket, planned_banks
from clear.features.planned import PlannedBank


def test_planned_bank_is_the_one_that_will_be_made_but_for_its_features(tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=2)
    source = read_images(dict(type='CLEAR', data_root=str(root)))
    encoder = TinyEncoder()
    with planned_banks():
        planned = extract(encoder, source, root=tmp_path / 'banks', batch_size=4)
    assert isinstance(planned, PlannedBank) and encoder.num_forwards == 0 and not (tmp_path / 'banks').exists()
    made = extract(encoder, source, root=tmp_path / 'banks', batch_size=4)
    assert not isinstance(made, PlannedBank) and encoder.num_forwards > 0
    for key in ('fingerprint', 'identity', 'dtype', 'dim', 'count', 'num_valid', 'class_names', 'maps', 'source'):
        assert planned.meta[key] == made.meta[key]
    assert planned.path == made.path
    assert np.array_equal(planned.labels, made.labels) and np.array_equal(planned.valid, made.valid)
    assert planned.index.to_pydict() == made.index.to_pydict() and planned.bad_samples() == []
    bucket = read_clear(root, seed=0).train[0]
    before, after = join_bucket(planned, bucket), join_bucket(made, bucket)
    assert before.features.shape == after.features.shape and not before.features.any() and after.features.any()
    assert torch.equal(before.targets, after.targets) and before.missing == after.missing == []
    with planned_banks():
        assert not isinstance(extract(encoder, source, root=tmp_path / 'banks'), PlannedBank)


def test_description_tells_size_and_a_begun_extraction(tmp_path):
    source = read_images(dict(type='CLEAR', data_root=str(write_clear_tree(tmp_path / 'tree', num_buckets=1))))
    with planned_banks():
        bank = extract(TinyEncoder(), source, root=tmp_path / 'banks')
        assert bank.describe().startswith('12 images to encode: 12 x 6 float16, 0.0 MiB')
        bank.path.with_name(f'{bank.path.name}.partial').mkdir(parents=True)
        assert 'begun already' in bank.describe()
