"""Pairs of towers of every time on every bucket, by their text side."""

import json

import numpy as np
import pytest
import torch
from pair_streams import BUCKETS, COLOURS, TEMPLATES, by_class, tower, write_pairs
from PIL import Image
from torch.nn import functional

from clear.core.errors import ConfigError, DataError
from clear.core.files import save_tensors
from clear.engine.streams import over_time as program
from clear.engine.streams.over_time import RepresentationOverTime
from clear.engine.streams.over_time_data import read_stream
from clear.evaluation import ImageTextRetrieval, ZeroShot
from clear.features.loading import image_batches
from clear.models.alignment.encoder import AlignedEncoder
from clear.registry import MODELS

MODEL = dict(type='ImageTextAlignment', image_encoder=tower('Image'), text_encoder=tower('Text'),
             loss=dict(type='InfoNCELoss'))
TASKS = [dict(type='ZeroShot', name='zero_shot', templates=TEMPLATES), dict(type='KNN', k=1),
         dict(type='ImageTextRetrieval', name='retrieval', ks=[1])]


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    """Noisy colours in three buckets, and a pair of towers for each."""
    torch.set_num_threads(1)
    root = write_pairs(tmp_path_factory.mktemp('pairs'), per_colour=6)
    generator = np.random.default_rng(0)
    for path in sorted(root.rglob('*.png')):
        noisy = np.array(Image.open(path)) * 0.5 + generator.integers(0, 128, (40, 36, 3))
        Image.fromarray(noisy.astype(np.uint8)).save(path)
    files = []
    for number in range(3):
        torch.manual_seed(number)
        model = MODELS.build(MODEL)
        for parameter in model.parameters():
            if parameter.numel() > 1:
                parameter.data += 0.3 * torch.randn_like(parameter) * parameter.std()
        files.append(root.parent / f'{root.name}_{number}.pth')
        save_tensors(files[-1], dict(state_dict=model.state_dict()))
    return root, files


def config(stream, tmp_path, **changes):
    root, files = stream
    return {**dict(encoder=dict(type='AlignedEncoder', model=MODEL), tasks=TASKS,
                   data=dict(by_class(root), seed=1, test_ratio=0.5),
                   checkpoints=[dict(path=str(path), through=name) for path, name in zip(files, BUCKETS)],
                   banks=dict(root=str(tmp_path / 'banks'), dtype='float32')), **changes}


def by_hand(stream, cfg, without=None):
    """Zero-shot accuracy and recall of one both ways, image by image."""
    _, files = stream
    data, source = read_stream(cfg['data'])
    captions = {name: source.captions(row) for row, name in enumerate(source.texts('id'))}
    assert all(len(texts) == 2 for texts in captions.values())
    found = dict(zero_shot=[], retrieval=[])
    for path in files:
        encoder = AlignedEncoder(MODEL, path)
        unit = lambda rows: functional.normalize(rows, dim=-1)  # noqa: E731
        classes = [sum(unit(encoder.encode_text([template.format(name)]))[0] for template in TEMPLATES)
                   for name in sorted(COLOURS)]
        rows = dict(zero_shot=[], retrieval=[])
        for bucket in data.test:
            ids = [name for name in bucket.ids if name != without]
            labels = [target for name, target in zip(bucket.ids, bucket.targets) if name != without]
            places = [source.texts('id').index(name) for name in ids]
            with torch.no_grad():
                images = unit(encoder(next(image_batches(source, encoder.preprocess, [places])).images))
            guesses = [int(torch.tensor([image @ unit(each) for each in classes]).argmax()) for image in images]
            rows['zero_shot'].append(np.mean(np.array(guesses) == labels))
            texts = [(place, text) for place, name in enumerate(ids) for text in captions[name]]
            embedded = unit(torch.cat([encoder.encode_text([text]) for _, text in texts]))
            owners = [place for place, _ in texts]
            # Captions are shared by images of a class: what is right has lost against an equal one of another image.
            hits = [{owners[row] for row in best(image @ embedded.T)} == {place} for place, image in enumerate(images)]
            back = [best(text @ images.T) == [owner] for text, owner in zip(embedded, owners)]
            rows['retrieval'].append((np.mean(hits) + np.mean(back)) / 2)
        for name, values in rows.items():
            found[name].append(values)
    return found


def best(scores):
    return (scores > scores.max() - 1e-6).nonzero()[:, 0].tolist()


def test_matrices_are_those_of_the_towers_themselves(stream, tmp_path, drawn_figures):
    cfg = config(stream, tmp_path)
    results = RepresentationOverTime(cfg, tmp_path / 'run').run()
    matrices, expected = results.extras['matrices'], by_hand(stream, cfg)
    assert [*matrices] == ['zero_shot/each_bucket', 'KNN/probe_per_bucket', 'KNN/probe_of_own_bucket',
                           'retrieval/each_bucket']
    for name in expected:
        np.testing.assert_allclose(matrices[f'{name}/each_bucket'], expected[name], atol=1e-6)
        assert len({value for row in expected[name] for value in row}) > 2
    matrix = expected['zero_shot']
    assert results.metrics['zero_shot/each_bucket/forgetting'] == pytest.approx(
        sum(matrix[place][place] - matrix[2][place] for place in range(2)) / 2)
    assert {path.name for path in (tmp_path / 'run' / 'figures').iterdir()} == {
        'zero_shot_each_bucket.png', 'retrieval_each_bucket.png', 'KNN_probe_per_bucket.png',
        'KNN_probe_of_own_bucket.png'}


def test_finished_cells_are_kept_and_other_captions_are_measured_again(stream, tmp_path, monkeypatch):
    calls, score = [], program.score_text_task

    def counting(task, *args):
        calls.append(type(task))
        return score(task, *args)

    monkeypatch.setattr(program, 'score_text_task', counting)
    cfg = config(stream, tmp_path)
    whole = RepresentationOverTime(cfg, tmp_path / 'run').run()
    assert calls.count(ZeroShot) == calls.count(ImageTextRetrieval) == 9
    cells = json.loads((tmp_path / 'run' / 'cells.json').read_text())
    cells['cells'].popitem()
    (tmp_path / 'run' / 'cells.json').write_text(json.dumps(cells))
    calls.clear()
    again = RepresentationOverTime(cfg, tmp_path / 'run').run()
    assert len(calls) == 1 and (again.metrics, again.extras) == (whole.metrics, whole.extras)
    calls.clear()
    cfg['data'] = dict(cfg['data'], templates=['only {}'])
    RepresentationOverTime(cfg, tmp_path / 'run').run()
    assert calls == [ImageTextRetrieval] * 9


def test_an_image_that_cannot_be_read_takes_its_captions_along(stream, tmp_path):
    cfg = config(stream, tmp_path)
    cfg['banks']['max_bad_fraction'] = 0.5
    lost = read_stream(cfg['data'])[0].test[1].ids[2]
    expected = by_hand(stream, cfg, without=lost)
    path = stream[0] / lost
    kept = path.read_bytes()
    try:
        path.write_bytes(b'no image')
        matrices = RepresentationOverTime(cfg, tmp_path / 'run').run().extras['matrices']
    finally:
        path.write_bytes(kept)
    assert expected != by_hand(stream, cfg)
    for name in expected:
        np.testing.assert_allclose(matrices[f'{name}/each_bucket'], expected[name], atol=1e-6)


@pytest.mark.parametrize('changes, error, message', [
    (dict(encoder=dict(type='TorchvisionEncoder', arch='resnet18')), ConfigError,
     r'tasks\[0\]: ZeroShot needs an encoder of text; encoder is a TorchvisionEncoder'),
    (dict(tasks=[dict(type='ZeroShot', names=['red', 'green'])]), DataError, '2 names.*3 classes'),
    (dict(data='images', tasks=[dict(type='ImageTextRetrieval')]), DataError,
     'ImageTextRetrieval needs captions, and the images of data have none'),
    (dict(protocols=['each_bucket']), ConfigError, 'probe_of_own_bucket')])
def test_what_text_cannot_be_measured_on_is_refused(changes, error, message, stream, tmp_path):
    if changes.get('data') == 'images':
        changes = changes | dict(data=by_class(stream[0])['images'])
    with pytest.raises(error, match=message):
        RepresentationOverTime(config(stream, tmp_path, **changes), tmp_path / 'run')
    assert not list(tmp_path.iterdir())
