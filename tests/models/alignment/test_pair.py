"""Two encoders side by side, and the pair of a run: against the parts by hand; what does not fit is refused."""

import hashlib

import pytest
import torch
from download_server import serving
from tiny_text import TINY_CLIP, write_bert, write_two_towers
from torch import nn

from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.core.seeding import seeded_draws
from clear.features import identity_of
from clear.features.build import make_encoder, make_text_encoder, typed
from clear.models import AlignedEncoder, AlignedRun, ImageTextAlignment, TowerPair, build_encoder, build_text_encoder
from clear.models.necks import ProjectionMLP
from clear.registry import MODELS

TEXTS = ['a photo of a cat', 'a dog', 'two ships', 'no', 'an old truck']
IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
RESNET = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
MODEL = dict(type='ImageTextAlignment', image_encoder=IMAGE, text_encoder=TEXT, loss=dict(type='InfoNCELoss'))


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def seeded(build, cfg, seed=0):
    torch.manual_seed(seed)
    return build(cfg)


def test_a_pair_is_its_towers_each_followed_by_its_head(images):
    towers = seeded(build_encoder, RESNET), seeded(build_text_encoder, TEXT)
    head = ProjectionMLP(512, out_channels=16).eval()
    pair = TowerPair(*towers, image_head=head)
    torch.testing.assert_close(pair(images), head(towers[0](images)))
    torch.testing.assert_close(pair.encode_text(TEXTS), towers[1](TEXTS))
    assert (pair.embed_dim, pair.text_dim) == (16, 16) and pair.preprocess is towers[0].preprocess
    assert not any(value.requires_grad for value in pair.parameters()) and not pair.train().training
    bare = pair.without_heads()
    torch.testing.assert_close(bare(images), towers[0](images))
    assert (bare.embed_dim, bare.text_dim) == (512, 16) and bare.without_heads() is bare
    assert bare.fingerprint() != pair.fingerprint()
    counts = pair.parameter_counts()
    assert counts == dict(image_encoder=sum(each.numel() for each in towers[0].parameters()),
                          image_head=sum(each.numel() for each in head.parameters()),
                          text_encoder=sum(each.numel() for each in towers[1].parameters()))
    assert sum(counts.values()) == sum(each.numel() for each in pair.parameters())


def test_random_towers_are_the_same_every_time_and_in_every_pair(images):
    torch.manual_seed(11)
    one = make_encoder(dict(image_encoder=IMAGE, text_encoder=TEXT))
    torch.rand(7)
    two = make_encoder(dict(image_encoder=RESNET, image_head=dict(type='ProjectionMLP'), text_encoder=TEXT))
    alone = make_encoder(dict(text_encoder=TEXT))
    expected = make_text_encoder(TEXT)(TEXTS)
    for pair in (one, two, alone):
        torch.testing.assert_close(pair.encode_text(TEXTS), expected)
    torch.testing.assert_close(one(images), make_encoder(IMAGE)(images))
    again = make_encoder(dict(image_encoder=RESNET, image_head=dict(type='ProjectionMLP'), text_encoder=TEXT))
    assert again.fingerprint() == two.fingerprint() != one.fingerprint() and two.embed_dim == 16
    assert two.config['type'] == 'TowerPair'


def test_text_alone_and_images_alone(images, tmp_path):
    pair = make_encoder(dict(text_encoder=dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert'),
                                               text_pooler='mean')))
    assert pair.encode_text(['a cat']).shape == (1, pair.text_dim) and pair.embed_dim == pair.text_dim == 32
    with pytest.raises(ConfigError, match='this encoder has no image side'):
        pair(images)
    with pytest.raises(ConfigError, match='This encoder has no image side'):
        identity_of(pair, None)
    pair = make_encoder(dict(image_encoder=IMAGE))
    assert pair(images).shape == (3, 16) and pair.text_dim is None
    with pytest.raises(ConfigError, match='this encoder has no text side'):
        pair.encode_text(TEXTS)


def test_a_pair_of_transformers_is_its_own_model(images, tmp_path):
    from transformers import CLIPModel

    folder = write_two_towers(tmp_path / 'clip', 'CLIP')
    pair = make_encoder(dict(image_encoder=dict(type='HuggingFaceImageEncoder', model=folder),
                             text_encoder=dict(type='HuggingFaceTextEncoder', model=folder)))
    model = CLIPModel.from_pretrained(folder).eval()
    expected = model.visual_projection(model.vision_model(images).pooler_output)
    torch.testing.assert_close(pair(images), expected)
    assert pair.encode_text(['a cat', 'two ship']).shape == (2, 20)


def test_the_pair_of_a_bare_machine_is_an_entry_like_any_other(images, tmp_path):
    names = [f'thing {row}' for row in range(1000)]
    classifier = dict(RESNET, classifier=None)
    text = dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert'), text_pooler='mean')
    pair = make_encoder(dict(text_encoder=text, image_encoder=dict(
        type='ConSEImageEncoder', classifier=classifier, text_encoder=text, class_names=names, top_k=3)))
    assert pair.embed_dim == pair.text_dim == 32 and pair.without_heads() is pair
    with seeded_draws(0):
        top, rows = build_encoder(classifier)(images).topk(3, dim=1)
    vectors = torch.nn.functional.normalize(pair.encode_text(names), dim=1)
    expected = torch.stack([share @ vectors[row] for share, row in zip(top.softmax(1), rows)])
    torch.testing.assert_close(pair(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('whole', [False, True])
def test_a_head_takes_its_weights_from_its_own_file_or_from_a_whole_alignment(whole, images, tmp_path):
    torch.manual_seed(3)
    trained = ImageTextAlignment(RESNET, TEXT, dict(type='InfoNCELoss'), image_head=dict(type='ProjectionMLP')).eval()
    state = dict(state_dict=trained.state_dict()) if whole else trained.image_head.state_dict()
    torch.save(state, tmp_path / 'head.pth')
    pair = TowerPair(trained.image_encoder, trained.text_encoder,
                     image_head=dict(type='ProjectionMLP', weights=str(tmp_path / 'head.pth')))
    torch.testing.assert_close(pair(images), trained.encode_image(images))
    torch.save(dict(odd=torch.zeros(2)), tmp_path / 'head.pth')
    with pytest.raises(CheckpointError, match='image_head: .*holds no weights of this ProjectionMLP'):
        TowerPair(trained.image_encoder, image_head=dict(type='ProjectionMLP', out_channels=16,
                                                         weights=str(tmp_path / 'head.pth')))


def test_weights_may_be_an_address(images, tmp_path, monkeypatch):
    monkeypatch.setenv('CLEAR_CACHE', str(tmp_path / 'cache'))
    torch.manual_seed(3)
    cfg = dict(MODEL, image_encoder=RESNET, image_head=dict(type='ProjectionMLP'))
    trained = MODELS.build(cfg).eval()
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    with serving(monkeypatch) as server:
        server.files['whole.pth'] = content
        url = f'{server.url}/whole.pth'
        encoder = AlignedEncoder(cfg, dict(path=url, sha256=hashlib.sha256(content).hexdigest()))
        pair = TowerPair(trained.image_encoder, image_head=dict(type='ProjectionMLP', out_channels=16, weights=url))
    for each in (encoder, pair):
        torch.testing.assert_close(each(images), trained.encode_image(images))


@pytest.mark.parametrize('cfg, message', [
    (dict(type='TowerPair'), 'needs image_encoder='),
    (dict(image_encoder=IMAGE, text_head=dict(type='ProjectionMLP')), 'text_head has no text_encoder'),
    (dict(image_encoder=TEXT), 'OpenCLIPTextEncoder is no image encoder'),
    (dict(image_encoder=RESNET, image_head=dict(type='ProjectionMLP')), 'set joint_dim'),
    (dict(image_encoder=RESNET, image_head=nn.Linear(512, 3)), 'without the attribute out_channels')])
def test_parts_that_do_not_fit_are_refused(cfg, message):
    with pytest.raises(ConfigError, match=message):
        make_encoder(cfg)


def test_texts_that_are_not_read_to_the_end_are_counted(tmp_path):
    longest = 'a ' * 22  # with start and end 24 tokens, all that this tower reads
    texts = ['a cat', longest, longest + 'cat', 'dog ' * 60, 'é' * 40, 'ship']
    pair = TowerPair(text_encoder=TEXT)
    tokenizer = pair.model.text_encoder.tokenizer.inner
    expected = sum(len(tokenizer.encode(text)) + 2 > 24 for text in texts)
    assert expected == 3 == pair.num_truncated(texts)
    bert = build_text_encoder(dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert'),
                                   text_pooler='mean', max_seq_length=6))
    counts = [len(bert.tokenizer(text).input_ids) for text in texts]
    assert bert.num_truncated(texts) == sum(count > 6 for count in counts) > 0


def test_nan_is_refused_naming_the_text():
    pair = TowerPair(text_encoder=TEXT)
    pair.model.text_encoder.model.text_projection.data.fill_(float('nan'))
    with pytest.raises(DataError, match="embedding of 'a photo of a cat' is not finite"):
        pair.encode_text(TEXTS)


# Runs


@pytest.fixture
def alignment_run(tmp_path):
    """A folder as a run leaves it, and the model of its `epoch_1.pth`; `best.pth` is another, with an average."""
    def model(seed):
        torch.manual_seed(seed)
        return AlignedEncoder(MODEL).model

    trained, other, average = model(1), model(2), model(3)
    cfg = dict(format=1, config=dict(model=MODEL, seed=0), progress=dict(kind='Runner'))
    torch.save(dict(cfg, state_dict=trained.state_dict()), tmp_path / 'epoch_1.pth')
    torch.save(dict(cfg, state_dict=average.state_dict(), ema_state_dict={
        'steps': torch.tensor(3), **{f'module.{name}': value for name, value in other.state_dict().items()}}),
        tmp_path / 'best.pth')
    return tmp_path, trained, other, average


def test_a_run_is_what_its_checkpoint_says(alignment_run, images):
    folder, trained, other, average = alignment_run
    for options, model in ((dict(checkpoint='epoch_1'), trained), (dict(checkpoint='best'), average),
                           (dict(checkpoint=str(folder / 'epoch_1.pth')), trained),
                           (dict(checkpoint='epoch_1.pth'), trained),
                           (dict(checkpoint='best', ema=True), average), (dict(checkpoint='best', ema=False), other)):
        encoder = make_encoder(dict(run=str(folder), **options))
        assert isinstance(encoder, AlignedRun)
        torch.testing.assert_close(encoder(images), model.encode_image(images))
        torch.testing.assert_close(encoder.encode_text(TEXTS), model.encode_text(TEXTS), rtol=1e-4, atol=1e-5)
    as_config = AlignedEncoder(MODEL, folder / 'epoch_1.pth')
    torch.testing.assert_close(make_encoder(dict(run=str(folder), checkpoint='epoch_1'))(images), as_config(images))


def test_runs_that_cannot_be_read_are_refused(alignment_run, tmp_path):
    folder = alignment_run[0]
    with pytest.raises(CheckpointError, match='there is no folder'):
        AlignedRun(folder / 'nowhere')
    with pytest.raises(CheckpointError, match="has no checkpoint 'epoch_7'; it has best, epoch_1"):
        AlignedRun(folder, 'epoch_7')
    with pytest.raises(ConfigError, match='keeps no average'):
        AlignedRun(folder, 'epoch_1', ema=True)
    (folder / 'stream' / 'bucket_2').mkdir(parents=True)
    with pytest.raises(CheckpointError, match="a run over buckets, name one: run='.*bucket_2'"):
        AlignedRun(folder / 'stream')
    torch.save(dict(format=1, state_dict=dict(w=torch.zeros(1)), config=dict(model=dict(type='MoCo'))),
               folder / 'latest.pth')
    with pytest.raises(CheckpointError, match='of a run that trained MoCo, no alignment'):
        AlignedRun(folder)
    torch.save(dict(w=torch.zeros(1)), folder / 'latest.pth')
    with pytest.raises(CheckpointError, match='no checkpoint of a run of ours'):
        AlignedRun(folder)
    torch.save(dict(format=1, state_dict=dict(w=torch.zeros(1)), config=dict(model=MODEL)), folder / 'latest.pth')
    with pytest.raises(CheckpointError, match='no checkpoint of this model'):
        AlignedRun(folder)


def test_an_entry_without_type_is_known_by_its_keys():
    assert typed(dict(run='x')) == dict(type='AlignedRun', run='x')
    assert typed(dict(text_encoder=TEXT))['type'] == 'TowerPair'
    assert typed(dict(bank='x')) == dict(bank='x') and typed(IMAGE) is IMAGE
