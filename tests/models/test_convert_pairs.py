"""Checkpoints of ITRA, ProtoCLIP and open_clip become ours: against forward passes by the libraries they are built on.

The files are written here as those systems write theirs, from networks of open_clip, transformers, torchvision and
sentence-transformers, and heads by hand.
"""

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pair_files import IMAGES, PeerHead, assert_embeds, clip, converted, prefixed, scattered, write_run
from tiny_text import TEXTS, TINY_CLIP, write_bert, write_two_towers
from torch import nn

from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.engine.training.weights import load_start_weights
from clear.models import AlignedEncoder, OpenCLIPImageEncoder, TorchvisionEncoder, load_weights
from clear.models.converters.pairs import convert_pair
from clear.registry import MODELS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'convert_weights.py'
IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP)


def itra_of_open_clip(model):
    """ITRA's names: the text tower is the whole model without `visual`, and its scale has moved out."""
    state = {f'image_backbone.{name}': value for name, value in model.visual.state_dict().items()}
    return state | {f'text_backbone.{name}': value for name, value in model.state_dict().items()
                    if not name.startswith(('visual.', 'logit_'))}


@pytest.mark.parametrize('ddp', [True, False])
@pytest.mark.parametrize('source', ['auto', 'itra'])
def test_itra_with_both_towers_of_open_clip(tmp_path, source, ddp):
    import open_clip

    model = clip(quick_gelu=True)
    state = itra_of_open_clip(model) | {'logit_scale': torch.tensor([2.5]), 'text_backbone.attn_mask': torch.ones(2, 2)}
    path = write_run(tmp_path / 'epoch_3.pt', state, ddp)
    config = dict(type='ImageTextAlignment', image_encoder=dict(IMAGE, quick_gelu=True),
                  text_encoder=dict(TEXT, quick_gelu=True, trainable=True), loss=dict(type='InfoNCELoss'))
    ours, done = converted(path, config, source=source)
    with torch.no_grad():
        assert_embeds(ours, model.encode_image(IMAGES), model.encode_text(open_clip.tokenize(TEXTS, 24)))
    assert ours.logit_scale.item() == 2.5 and ours.logit_scale.shape == ()
    assert (done.source, done.unused, done.kept) == ('itra', ('text_backbone.attn_mask',), ())


@pytest.mark.parametrize('layers', [(2, 3), (1, 1)])
def test_itra_with_bert_a_resnet_and_heads_over_prototypes(tmp_path, layers):
    """The tensors of `DINOHead` are named as in the golden entry `DINOHead-n2-proto`."""
    transformers = pytest.importorskip('transformers')
    from torchvision.models import resnet18

    folder = write_bert(tmp_path / 'bert')
    bert = scattered(transformers.BertModel.from_pretrained(folder, add_pooling_layer=False))
    resnet = resnet18(weights=None)
    resnet.fc = nn.Identity()
    heads = dict(text=scattered(PeerHead(32, 24, 12, layers[0], 20), 1),
                 image=scattered(PeerHead(512, 24, 12, layers[1], 20), 2))
    for head in heads.values():  # lengths are one and never train
        head.last_layer.weight_g.data.fill_(1)
    state = prefixed('image_backbone', scattered(resnet)) | prefixed('text_backbone', bert)
    state['text_backbone.embeddings.position_ids'] = torch.arange(64)[None]
    state['text_backbone.logit_scale'] = torch.tensor(3.0)
    for side, head in heads.items():
        state |= prefixed(f'{side}_projection_head', head)
    path = write_run(tmp_path / 'epoch_3.pt', state)
    head = dict(type='DINOHead', hidden_channels=24, bottleneck_channels=12, out_channels=20)
    config = dict(type='ImageTextAlignment', loss=dict(type='ProtoCPCLoss', out_dim=20),
                  image_encoder=dict(type='TorchvisionEncoder', arch='resnet18', trainable=True),
                  text_encoder=dict(type='HuggingFaceTextEncoder', model=folder, text_pooler='mean'),
                  text_head=dict(head, num_layers=layers[0]), image_head=dict(head, num_layers=layers[1]))
    ours, done = converted(path, config)
    batch = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors='pt')
    with torch.no_grad():
        states, mask = bert(**batch).last_hidden_state, batch['attention_mask'][..., None]
        assert_embeds(ours, heads['image'](resnet(IMAGES)), heads['text']((states * mask).sum(1) / mask.sum(1)))
    # The prior of the loss is not saved there; lengths of one and computed positions say nothing.
    assert {name.partition('.')[0] for name in done.kept} == {'criterion'}
    assert [name for name in done.unused if 'weight_g' not in name] == [
        'text_backbone.embeddings.position_ids', 'text_backbone.logit_scale']


def test_itra_with_a_prompt_and_one_head(tmp_path):
    model = clip()
    head, prompt = scattered(PeerHead(16, 24, 16, 1)), torch.rand(4, 32)
    path = write_run(tmp_path / 'epoch_1.pt', itra_of_open_clip(model) | prefixed('image_projection_head', head)
                     | {'prompt': prompt, 'logit_scale': torch.tensor(1.0)})
    config = dict(type='ImageTextAlignment', image_encoder=IMAGE, text_encoder=dict(TEXT, n_prompt=4),
                  image_head=dict(type='DINOHead', num_layers=1), loss=dict(type='InfoNCELoss'))
    ours, done = converted(path, config)
    assert torch.equal(ours.text_encoder.model.prompt, prompt) and not done.kept
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(IMAGES), head(model.encode_image(IMAGES)))


@pytest.mark.parametrize('arch, removed', [('mobilenet_v3_small', 'classifier'), ('resnet18', 'fc')])
def test_itra_takes_the_whole_classifier_of_torchvision(tmp_path, arch, removed):
    from torchvision import models

    bert = write_bert(tmp_path / 'bert')
    library = pytest.importorskip('sentence_transformers')
    sentence = scattered(library.SentenceTransformer(bert, device='cpu'))
    network = models.get_model(arch, weights=None)
    setattr(network, removed, nn.Identity())
    scattered(network)
    inner = {name.replace('0.model.', '0.auto_model.'): value for name, value in sentence.state_dict().items()}
    path = write_run(tmp_path / 'epoch_1.pt', {
        **prefixed('image_backbone', network), **{f'text_backbone.{name}': value for name, value in inner.items()}})
    config = dict(type='ImageTextAlignment', loss=dict(type='RKDLoss'),
                  image_encoder=dict(type='TorchvisionEncoder', arch=arch, classifier=removed),
                  text_encoder=dict(type='SentenceTransformerEncoder', model=bert))
    images = torch.rand(2, 3, 64, 64)
    ours, _ = converted(path, config)
    with torch.no_grad():
        expected = sentence.encode(TEXTS, convert_to_tensor=True)
        assert_embeds(ours, network(images), expected, images)
    # The image tower alone, as the plain weights of its library.
    encoder = TorchvisionEncoder(arch, classifier=removed, weights=dict(path=path, source='itra'))
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), network(images))


@pytest.mark.parametrize('kind', ['lora_adapter', 'bottleneck_adapter', 'prefix_tuning', 'dummy', 'mam_adapter'])
def test_itra_with_an_adapter(tmp_path, kind):
    """Under the name of its option, in the names of the library of today."""
    library = pytest.importorskip('adapters')
    from transformers import AutoModel, AutoTokenizer

    from clear.models.adapters.library import ADAPTERS

    folder = write_bert(tmp_path / 'bert', hidden_size=128)
    bert = AutoModel.from_pretrained(folder)
    library.init(bert)
    bert.add_adapter(kind, config=ADAPTERS[kind](library))
    bert.train_adapter(kind)
    scattered(bert)
    state = itra_of_open_clip(clip())
    state = {name: value for name, value in state.items() if name.startswith('image')}
    path = write_run(tmp_path / 'epoch_1.pt', state | prefixed('text_backbone', bert))
    config = dict(type='ImageTextAlignment', loss=dict(type='RKDLoss'), image_encoder=IMAGE,
                  text_encoder=dict(type='HuggingFaceTextEncoder', model=folder, adapter=kind))
    ours, done = converted(path, config)
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors='pt')
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_text(TEXTS), bert(**batch).pooler_output, rtol=1e-5, atol=1e-6)
    assert not done.unused and not done.kept


def test_itra_with_chinese_clip(tmp_path):
    """cn_clip's image tower is OpenAI's, its text tower BERT without a pooler, read at the first token."""
    transformers = pytest.importorskip('transformers')
    folder = write_two_towers(tmp_path / 'm', 'ChineseCLIP')
    vision = dict(TINY_CLIP['vision_cfg'], width=48, head_width=24, layers=2, mlp_ratio=37 / 48)
    import open_clip

    torch.manual_seed(0)
    visual = scattered(open_clip.CLIP(embed_dim=20, vision_cfg=vision, text_cfg=TINY_CLIP['text_cfg'],
                                      quick_gelu=True).visual)
    config = transformers.ChineseCLIPConfig.from_pretrained(folder).text_config
    bert = scattered(transformers.BertModel(transformers.BertConfig(**{
        key: getattr(config, key) for key in ('vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads',
                                              'intermediate_size', 'max_position_embeddings')}),
        add_pooling_layer=False))
    projection = torch.randn(32, 20)
    path = write_run(tmp_path / 'epoch_1.pt', prefixed('image_backbone', visual) | prefixed('text_backbone.bert', bert)
                     | {'text_backbone.text_projection': projection, 'logit_scale': torch.tensor(2.0)})
    config = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
                  image_encoder=dict(type='HuggingFaceImageEncoder', model=folder),
                  text_encoder=dict(type='HuggingFaceTextEncoder', model=folder))
    ours, done = converted(path, config)
    batch = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors='pt')
    with torch.no_grad():
        assert_embeds(ours, visual(IMAGES), bert(**batch).last_hidden_state[:, 0] @ projection)
    assert not done.unused and not done.kept


def protoclip(tmp_path, layers=1):
    """A run of ProtoCLIP: open_clip's names with QuickGELU, two heads of linear layers with BatchNorm, two scales."""
    model, heads = clip(quick_gelu=True), {}
    for seed, side in enumerate(('text', 'image')):
        widths = [16, *[24] * layers, 8]
        parts = [nn.Linear(*pair) for pair in zip(widths, widths[1:])]
        heads[side] = scattered(nn.Sequential(*(each for part in parts[:-1] for each in (
            part, nn.BatchNorm1d(24), nn.ReLU())), parts[-1]), seed)
    state = model.state_dict() | {'logit_scale': torch.tensor(2.0), 'logit_scale_proto': torch.tensor(3.0)}
    state |= {name: value for side, head in heads.items()
              for name, value in prefixed(f'{side}_projection_head', head).items()}
    return write_run(tmp_path / 'epoch_latest.pt', state), model, heads


@pytest.mark.parametrize('layers', [0, 1, 2])
def test_protoclip_with_its_heads(tmp_path, layers):
    import open_clip

    path, model, heads = protoclip(tmp_path, layers)
    head = dict(type='ProtoCLIPHead', hidden_channels=24, out_channels=8, num_layers=layers)
    config = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_head=head, text_head=head,
                  image_encoder=dict(IMAGE, quick_gelu=True), text_encoder=dict(TEXT, quick_gelu=True))
    ours, done = converted(path, config, drop=['logit_scale_proto'])
    with torch.no_grad():
        text = model.encode_text(open_clip.tokenize(TEXTS, 24))
        assert_embeds(ours, F.normalize(heads['image'](model.encode_image(IMAGES))), F.normalize(heads['text'](text)))
    assert (done.source, done.unused) == ('protoclip', ('logit_scale_proto',)) and ours.logit_scale.item() == 2


def test_protoclip_as_the_model_that_trains_on(tmp_path):
    """With its heads beside the embeddings and its second scale, nothing is left over."""
    import open_clip

    path, model, heads = protoclip(tmp_path)
    config = dict(type='ProtoCLIP', loss=dict(type='InfoNCELoss'), image_encoder=dict(IMAGE, quick_gelu=True),
                  text_encoder=dict(TEXT, quick_gelu=True, trainable=True),
                  projection=dict(type='ProtoCLIPHead', hidden_channels=24, out_channels=8))
    done = convert_pair(path, config)
    assert (done.source, done.unused, done.kept) == ('protoclip', (), ())
    ours = MODELS.build(config).eval()
    ours.load_state_dict(done.state)
    with torch.no_grad():
        image, text = model.encode_image(IMAGES), model.encode_text(open_clip.tokenize(TEXTS, 24))
        assert_embeds(ours, image, text)
        found = ours.project_pairs(dict(image=image, text=text))
        for side, embedded in (('image', image), ('text', text)):
            torch.testing.assert_close(found[side], F.normalize(heads[side](embedded)), rtol=1e-5, atol=1e-6)
    assert (ours.logit_scale.item(), ours.logit_scale_proto.item()) == (2, 3)


def test_what_is_left_over_is_named_and_refused(tmp_path, caplog):
    import open_clip

    path, model, _ = protoclip(tmp_path)
    config = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_encoder=IMAGE, text_encoder=TEXT)
    with pytest.raises(CheckpointError, match=r'epoch_latest.pt \(protoclip\) does not fit.*18 of its own have no '
                       r'place: text_projection_head.0 \(2\), .*image_projection_head.3 \(2\).*named with --drop'):
        convert_pair(path, config, drop=['logit_scale_proto'])
    caplog.set_level(logging.WARNING, logger='clear')
    names = ['logit_scale_proto', 'text_projection_head.', 'image_projection_head.']
    done = convert_pair(path, config, drop=names)
    assert len(done.unused) == 19 and all(name.startswith(tuple(names)) for name in done.unused)
    assert 'ProtoCLIP trains its own towers with QuickGELU' in caplog.text
    ours, _ = converted(path, dict(config, image_encoder=dict(IMAGE, quick_gelu=True),
                                   text_encoder=dict(TEXT, quick_gelu=True)), drop=names)
    with torch.no_grad():
        assert_embeds(ours, model.encode_image(IMAGES), model.encode_text(open_clip.tokenize(TEXTS, 24)))


@pytest.mark.parametrize('kind', ['CLIP', 'CustomTextCLIP'])
def test_a_whole_model_of_open_clip(tmp_path, kind):
    import open_clip

    model = clip(kind, init_logit_scale=1.5, init_logit_bias=-4.0)
    torch.save(model.state_dict(), tmp_path / 'w.pt')
    config = dict(type='ImageTextAlignment', loss=dict(type='SigLIPLoss'), image_encoder=IMAGE, text_encoder=TEXT)
    ours, done = converted(tmp_path / 'w.pt', config)
    with torch.no_grad():
        assert_embeds(ours, model.encode_image(IMAGES), model.encode_text(open_clip.tokenize(TEXTS, 24)))
    assert done.source == 'openclip' and ours.logit_scale.item() == model.logit_scale.item()
    assert ours.logit_bias.item() == model.logit_bias.item()


class Evil:
    def __reduce__(self):
        return exec, ('raise SystemExit("code ran")',)


def test_bad_input(tmp_path):
    config = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_encoder=IMAGE, text_encoder=TEXT)
    state = itra_of_open_clip(clip()) | {'logit_scale': torch.tensor(1.0)}
    path = write_run(tmp_path / 'e.pt', {name: value for name, value in state.items() if 'ln_final' not in name})
    with pytest.raises(CheckpointError, match=r'e.pt \(itra\) does not fit .* lacks 2 of \d+ tensors, first '
                       'text_encoder.model.ln_final.weight. Let the config describe'):
        convert_pair(path, config)
    narrow = dict(TINY_CLIP, text_cfg=dict(TINY_CLIP['text_cfg'], context_length=20))
    path = write_run(tmp_path / 'e.pt', state)
    with pytest.raises(CheckpointError, match=r'positional_embedding \(24, 32\), expected \(20, 32\)'):
        convert_pair(path, dict(config, text_encoder=dict(TEXT, model_args=narrow)))
    with pytest.raises(CheckpointError, match=r'\(protoclip\) does not fit .* lacks'):
        convert_pair(path, config, source='protoclip')
    with pytest.raises(ConfigError, match="source 'itr' is no system .* nearest: 'itra'"):
        convert_pair(path, config, source='itr')
    with pytest.raises(ConfigError, match="drop: no tensor of e.pt begins with 'text_head'. First names: image_back"):
        convert_pair(path, config, drop=['text_head'])
    with pytest.raises(ConfigError, match='model is a OpenCLIPImageEncoder, expected'):
        convert_pair(path, OpenCLIPImageEncoder('ViT-B-32', model_args=TINY_CLIP))
    torch.save(dict(conv=torch.ones(2)), tmp_path / 'x.pt')
    with pytest.raises(CheckpointError, match='x.pt holds no pair of towers .* First names: conv'):
        convert_pair(tmp_path / 'x.pt', config)
    torch.save(dict(state_dict=state, args=Evil()), tmp_path / 'evil.pt')
    with pytest.raises(CheckpointError, match='could run foreign code'):
        convert_pair(tmp_path / 'evil.pt', config)
    head = scattered(PeerHead(16, 4, 16, 1, 5))
    head.last_layer.weight_g.data.fill_(2)
    path = write_run(tmp_path / 'e.pt', state | prefixed('image_projection_head', head))
    heads = {f'{side}_head': dict(type='DINOHead', num_layers=1, out_channels=5, bottleneck_channels=16)
             for side in ('image', 'text')}
    with pytest.raises(CheckpointError, match='lacks 3 of .* 1 of its own have no place: image_projection_head.last'):
        convert_pair(path, dict(config, loss=dict(type='CrossModalDINOLoss', out_dim=5), **heads),
                     drop=['logit_scale'])


def test_the_program_writes_what_training_and_probes_read(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('convert_weights', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path, model, _ = protoclip(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = dict(type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), image_encoder=IMAGE, text_encoder=TEXT)
    Path('run.py').write_text(f'model = {config!r}\n')
    gelu = ['--cfg-options', 'model.image_encoder.quick_gelu=True', 'model.text_encoder.quick_gelu=True']
    assert tool.main([str(path), 'out.pth', '--config', 'run.py', *gelu]) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: epoch_latest.pt (protoclip) does not fit') and not Path('out.pth').exists()
    drop = ['--drop', 'logit_scale_proto', 'text_projection_head', '--drop', 'image_projection_head']
    assert tool.main([str(path), 'out.pth', '--config', 'run.py', '--dry-run', *gelu, *drop]) == 0
    assert not Path('out.pth').exists()
    assert tool.main([str(path), 'out.pth', '--config', 'run.py', *gelu, *drop]) == 0
    said = capsys.readouterr().out
    assert 'protoclip -> clear' in said and 'left out: image_projection_head.0.weight' in said and 'wrote out' in said
    config = dict(config, image_encoder=dict(IMAGE, quick_gelu=True), text_encoder=dict(TEXT, quick_gelu=True))
    with torch.no_grad():
        expected = model.encode_image(IMAGES)
        torch.testing.assert_close(AlignedEncoder(config, 'out.pth')(IMAGES), expected)
        for load in (load_start_weights, load_weights):
            ours = MODELS.build(config)
            load(ours, 'out.pth')
            torch.testing.assert_close(ours.encode_image(IMAGES), expected)
    assert load_tensors('out.pth').keys() == {'state_dict'}
    for wrong in (['--drop', 'x'], gelu, ['--config', 'run.py', '--target', 'moco'],
                  ['--config', 'run.py', '--source', 'swav']):
        assert tool.main([str(path), 'new.pth', *wrong]) == 2
    said = capsys.readouterr().err
    assert '--drop goes with --config' in said and "source 'swav' is no system with pairs" in said
