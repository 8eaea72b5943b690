"""Features of a bucket as the earlier curation left them, written as its programs did."""

import json
import pickle
import sys
import types

import numpy as np


def old_features(bucket, ids, rows, model='RN101', sizes=None, kinds=('original', 'normalized'),
                 image_dir='/old/images', suffix='.json'):
    """A folder with `features_<model>` of the images `ids`; rows (N, D) of any float type.

    Args:
        sizes: rows of each shard; by default one has all.
    """
    folder = bucket / f'features_{model}'
    folder.mkdir(parents=True)
    starts = np.cumsum([0, *(sizes or [len(ids)])]).tolist()
    shards, paths = [], []
    for number, (start, end) in enumerate(zip(starts, starts[1:])):
        part = rows[start:end]
        with np.errstate(all='ignore'):
            unit = (part.astype(np.float32) / np.linalg.norm(part.astype(np.float32), axis=1)[:, None])
        arrays = dict(original=part, normalized=unit)
        for kind in kinds:
            np.save(folder / f'features_{number}_{kind}.npy', arrays[kind])
        shards.append([record(name, image_dir) for name in ids[start:end]])
        paths.append({kind: str(folder / f'features_{number}_{kind}.npy') for kind in kinds})
    index = bucket / f'features_{model}{suffix}'
    if suffix == '.json':
        index.write_text(json.dumps([shards, paths]))
    else:
        index.write_bytes(pickled([shards, paths]))
    return bucket


def record(name, image_dir='/old/images'):
    return dict(ID=str(name), IMG_DIR=image_dir, IMG_PATH=f'{name}.jpg', DATE_TAKEN='2008-01-01 03:00:00.0',
                DATE_UPLOADED='1200000000', TITLE='a [title], "quoted"')


def pickled(content):
    """With records as objects of a class of the program that wrote them."""
    module = types.ModuleType('large_scale_yfcc_download')
    module.MetadataObject = type('MetadataObject', (), {'__module__': module.__name__})
    sys.modules[module.__name__] = module
    try:
        shards = []
        for records in content[0]:
            shards.append([])
            for each in records:
                held = module.MetadataObject()
                held.__dict__.update(each)
                shards[-1].append(held)
        return pickle.dumps([shards, content[1]])
    finally:
        del sys.modules[module.__name__]
