"""Entries of `encoders` that are pairs or runs, and tasks on text alone, through the runner."""

import json
from pathlib import Path

import pytest
import torch
from tiny_encoder import write_images
from tiny_text import TINY_CLIP

from clear.core.errors import USER_ERRORS, TrainingError
from clear.engine.probing.runner import ProbeRunner
from clear.evaluation.task import TaskResult
from clear.features.build import make_encoder
from clear.registry import TASKS

IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
WIDE = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
PAIR = dict(image_encoder=IMAGE, text_encoder=TEXT)
MODEL = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), **PAIR)
IMAGES = dict(type='ImageFolder', root='images')


class Words:
    """The length of the embeddings of the words of a file."""

    needs = ('text_encoder',)

    def __init__(self, path='words.txt'):
        self.path = path

    def files_fingerprint(self):
        from clear.core.files import read_text

        return read_text(self.path)

    def run(self, encoder, data):
        assert not (data.bank or data.images or data.text)
        return TaskResult('length', encoder.encode_text(Path(self.path).read_text().split()).norm(dim=1).mean().item())


class Width:
    """The width of the features of 'test'."""

    needs = ('bank',)

    def run(self, encoder, data):
        return TaskResult('width', float(data.bank['test'].tensors()[0].shape[1]))


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    TASKS.import_from_location()
    before = dict(TASKS.module_dict)
    for kind in (Words, Width):
        TASKS.register_module(module=kind)
    write_images(Path('images'), count=4)
    Path('words.txt').write_text('cat dog')
    yield
    TASKS.module_dict.clear()
    TASKS.module_dict.update(before)


def config(encoder, *tasks, **more):
    tasks = [dict(type=task) if isinstance(task, str) else task for task in tasks]
    return {**dict(device='cpu', encoders=dict(net=encoder), tasks=tasks, banks=dict(root='banks', dtype='float32')),
            **more}


def test_text_alone_is_enough_for_a_task_on_text_and_changed_words_are_measured_again():
    metrics = ProbeRunner(config(dict(text_encoder=TEXT), 'Words'), Path('work')).run().metrics
    expected = make_encoder(dict(text_encoder=TEXT)).encode_text(['cat', 'dog']).norm(dim=1).mean().item()
    assert metrics == {'net/Words/length': pytest.approx(expected)} and not Path('banks').exists()
    job = json.loads(Path('work/jobs.json').read_text())['jobs']['net--Words']
    assert set(job['banks']) == {'encoder', 'files'} and job['encoder_hash'] == job['banks']['encoder'][:16]
    assert ProbeRunner(config(dict(text_encoder=TEXT), 'Words'), Path('work')).resume() == 1
    Path('words.txt').write_text('cat ship')
    assert ProbeRunner(config(dict(text_encoder=TEXT), 'Words'), Path('work')).resume() == 0


def test_a_task_whose_files_are_gone_fails_alone():
    cfg = config(PAIR, dict(type='Words', path='gone.txt'), 'Width', data=dict(test=IMAGES))
    with pytest.raises(TrainingError, match=r'1 of 2 jobs failed(.|\n)*gone.txt'):
        ProbeRunner(cfg, Path('work')).run()
    assert json.loads(Path('work/results.json').read_text())['metrics'] == {'net/Width/width': 16.0}


def test_a_task_reads_towers_without_their_heads_if_it_says_so():
    entry = dict(image_encoder=WIDE, text_encoder=TEXT, image_head=dict(type='ProjectionMLP'))
    tasks = ['Width', dict(type='Width', name='tower', features='backbone')]
    results = ProbeRunner(config(entry, *tasks, data=dict(test=IMAGES)), Path('work')).run()
    assert results.metrics == {'net/Width/width': 16.0, 'net/tower/width': 512.0}
    assert len(list(Path('banks').iterdir())) == 2
    jobs = json.loads(Path('work/jobs.json').read_text())['jobs']
    assert len({job['hash'] for job in jobs.values()}) == len({job['encoder_hash'] for job in jobs.values()}) == 2
    assert ProbeRunner(config(entry, *tasks, data=dict(test=IMAGES)), Path('work')).resume() == 2


def test_a_run_is_an_encoder_and_other_weights_of_it_are_measured_again():
    def save(seed):
        torch.manual_seed(seed)
        from clear.models import AlignedEncoder

        torch.save(dict(format=1, config=dict(model=MODEL), state_dict=AlignedEncoder(MODEL).model.state_dict()),
                   'run/best.pth')

    Path('run').mkdir()
    save(1)
    cfg = config(dict(run='run', checkpoint='best', info=dict(method='ours')), 'ZeroShot', 'Words',
                 data=dict(test=IMAGES))
    first = ProbeRunner(cfg, Path('work')).run().metrics
    assert ProbeRunner(cfg, Path('work')).resume() == 2
    save(2)
    again = ProbeRunner(cfg, Path('work'))
    assert again.resume() == 0 and again.run().metrics['net/Words/length'] != first['net/Words/length']


def test_towers_of_two_widths_are_refused_where_they_are_compared_before_anything_is_encoded():
    cfg = config(dict(image_encoder=WIDE, text_encoder=TEXT), 'ZeroShot', 'Words', 'Width', data=dict(test=IMAGES))
    with pytest.raises(TrainingError, match='images of this encoder have 512 dimensions, its texts 16, so they cannot'):
        ProbeRunner(cfg, Path('work')).run()
    found = json.loads(Path('work/results.json').read_text())['metrics']
    assert set(found) == {'net/Words/length', 'net/Width/width'}
    cfg = config(dict(image_encoder=WIDE, text_encoder=TEXT), 'ZeroShot', data=dict(test=IMAGES),
                 banks=dict(root='others'))
    with pytest.raises(TrainingError, match='image_head or text_head'):
        ProbeRunner(cfg).run()
    assert not Path('others').exists()


@pytest.mark.parametrize('encoder, task, message', [
    (dict(type='TorchvisionEncoder', run='run'), 'Width', 'It has both type and run'),
    (dict(run='run', bank='banks'), 'Width', 'It has both bank and run'),
    (dict(run='nowhere'), 'Width', 'there is no folder nowhere'),
    (dict(run='images'), 'Width', "run images has no checkpoint 'latest'; it has none"),
    (dict(run='run', checkpiont='best'), 'Width', "'checkpoint'"),
    (dict(image_encoder=IMAGE), 'ZeroShot', 'net names no text_encoder, which encodes no text'),
    (dict(image_encoder=IMAGE), 'Words', 'net names no text_encoder'),
    (dict(text_encoder=TEXT), 'Width', 'Width needs an encoder of images; encoders.net names no image_encoder'),
    (dict(text_encoder=TEXT, txt_head=None), 'Words', "'text_head'"),
    (WIDE, 'Words', 'encoders.net is a TorchvisionEncoder'),
    (PAIR, dict(type='Words', data=dict(test=IMAGES)), 'Words reads texts of its own and no data'),
    (PAIR, dict(type='Width', features='tower'), "features is 'tower'"),
    (dict(bank='banks'), dict(type='Width', features='backbone'), 'a folder of banks, which hold what they hold')])
def test_entries_that_cannot_be_meant_are_refused(encoder, task, message):
    test = 'x' if 'bank' in encoder else IMAGES
    with pytest.raises(USER_ERRORS, match=message):
        ProbeRunner(config(encoder, task, data=dict(test=test)))


def test_retrieval_reads_every_caption_and_changed_captions_are_measured_again():
    pairs = [(name, f'{kind} {name}') for name in sorted(path.name for path in Path('images').rglob('*.png'))
             for kind in ('a', 'the')]
    files = {path.name: str(path) for path in Path('images').rglob('*.png')}
    write = lambda rows: Path('pairs.tsv').write_text(  # noqa: E731
        'filepath\ttitle\n' + ''.join(f'{files[name]}\t{title}\n' for name, title in rows))
    write(pairs)
    data = dict(test=dict(type='ImageTextTable', path='pairs.tsv', merge=True))
    cfg = config(PAIR, dict(type='ImageTextRetrieval', ks=[1, 2]), data=data)
    ProbeRunner(cfg, Path('work')).run()
    job = json.loads(Path('work/jobs.json').read_text())['jobs']['net--ImageTextRetrieval']
    assert job['result']['extras']['n_captions'] == len(pairs) > len(files)
    assert ProbeRunner(cfg, Path('work')).resume() == 1
    write([*pairs[:-1], (pairs[-1][0], 'something else')])
    assert ProbeRunner(cfg, Path('work')).resume() == 0


def test_a_set_of_clip_benchmark_is_measured_with_its_own_names_and_templates():
    pytest.importorskip('webdataset')
    from pair_shards import picture
    from pair_shards import written as write_tar

    root = Path('wds_pets/test')
    root.mkdir(parents=True)
    write_tar(root / '0.tar', [(f's{row}.{kind}', picture(row) if kind == 'png' else str(row % 3).encode())
                               for row in range(6) for kind in ('png', 'cls')])
    (root / 'nshards.txt').write_text('1')
    Path('wds_pets/classnames.txt').write_text('cat\ndog\nowl\n')
    Path('wds_pets/zeroshot_classification_templates.txt').write_text('a photo of a {c}.\na {c}.\n')
    task = dict(type='ZeroShot', templates=dict(file='wds_pets/zeroshot_classification_templates.txt'))
    cfg = config(PAIR, task, data=dict(test=dict(type='CLIPBenchmark', root='wds_pets')))
    ProbeRunner(cfg, Path('work')).run()
    extras = json.loads(Path('work/jobs.json').read_text())['jobs']['net--ZeroShot']['result']['extras']
    assert extras['names'] == ['cat', 'dog', 'owl'] and extras['templates'] == ['a photo of a {}.', 'a {}.']
    assert extras['n_test'] == 6


def test_a_choice_of_captions_needs_captions_before_anything_is_encoded():
    with pytest.raises(USER_ERRORS, match='CaptionChoice needs text, but the images of type ImageFolder have no'):
        ProbeRunner(config(PAIR, 'CaptionChoice', data=dict(test=IMAGES)), Path('work')).run()
    assert not Path('banks').exists()


def test_texts_are_encoded_once_for_each_encoder(monkeypatch):
    from clear.models.alignment.pair import TowerPair

    calls, encode = [], TowerPair.encode_text
    monkeypatch.setattr(TowerPair, 'encode_text', lambda self, texts: (calls.append(self), encode(self, texts))[1])
    entries = dict(one=PAIR, other=dict(PAIR, image_head=dict(type='ProjectionMLP', out_channels=16)))
    tasks = [dict(type='ZeroShot', name=name, metric=metric) for name, metric in (
        ('first', 'top1'), ('second', 'mean_per_class'))]
    ProbeRunner(dict(encoders=entries, tasks=tasks, data=dict(test=IMAGES), name='x', device='cpu', threads=1)).run()
    assert len(calls) == 2 and calls[0] is not calls[1]
