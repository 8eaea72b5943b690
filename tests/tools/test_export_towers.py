"""A published pair comes in, trains a step and goes back to its library by the program, with equal outputs."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_text import TEXTS, TINY_CLIP, write_bert, write_two_towers

from clear.core.files import save_tensors
from clear.models import HuggingFaceTextEncoder, build_text_encoder
from clear.models.converters.pairs import convert_pair
from clear.registry import MODELS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'export_towers.py'
spec = importlib.util.spec_from_file_location('export_towers', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
IMAGES = torch.rand(len(TEXTS), 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return tool.main(['run.py', 'latest.pth', *map(str, arguments)])


def trained(image, text, start=None, **more):
    """The config and the checkpoint of a run of one step."""
    config = dict(type='ImageTextAlignment', image_encoder=image, text_encoder=text,
                  **{'loss': dict(type='InfoNCELoss'), **more})
    Path('run.py').write_text(f'model = {config!r}\n')
    torch.manual_seed(3)
    model = MODELS.build(config).train()
    if start is not None:
        model.load_state_dict(convert_pair(start, config).state)
    optimiser = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.5)
    for _ in range(2):  # LoRA's second matrix begins at zero
        optimiser.zero_grad()
        losses = model(IMAGES, TEXTS, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimiser.step()
    save_tensors('latest.pth', dict(state_dict=model.state_dict()))
    return model.eval()


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('suffix', ['pt', 'safetensors'])
def test_a_checkpoint_of_open_clip_goes_there_and_back(suffix):
    import open_clip

    torch.manual_seed(0)
    first, second = (open_clip.CLIP(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg'],
                                    init_logit_scale=1.5).eval() for _ in range(2))
    torch.save(first.state_dict(), 'clip.pt')
    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    ours = trained(dict(sides, type='OpenCLIPImageEncoder'), dict(sides, type='OpenCLIPTextEncoder'), 'clip.pt')
    assert run(f'out.{suffix}', '--dry-run') == 0 and not Path(f'out.{suffix}').exists()
    assert run(f'out.{suffix}') == 0
    open_clip.load_checkpoint(second, f'out.{suffix}')
    tokens = open_clip.tokenize(TEXTS, 24)
    with torch.no_grad():
        equal(second.encode_image(IMAGES), ours.encode_image(IMAGES))
        equal(second.encode_text(tokens), ours.encode_text(TEXTS))
        equal(second.logit_scale, ours.logit_scale)
        assert (second.encode_text(tokens) - first.encode_text(tokens)).abs().max() > 1e-4
        assert second.logit_scale != first.logit_scale
    assert run(f'out.{suffix}') == 2 and run(f'out.{suffix}', '--overwrite') == 0


@pytest.mark.parametrize('side, bad', [('both', 'image'), ('both', 'text'), ('image', 'image'), ('text', 'text'),
                                       ('image', 'text'), ('text', 'image')])
def test_weights_of_no_use_are_not_written(side, bad, capsys):
    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    model = trained(dict(sides, type='OpenCLIPImageEncoder'), dict(sides, type='OpenCLIPTextEncoder'))
    name, value = next((name, value) for name, value in model.state_dict().items()
                       if name.startswith(f'{bad}_encoder.') and value.is_floating_point())
    value.view(-1)[0] = float('nan')
    save_tensors('latest.pth', dict(state_dict=model.state_dict()))
    out = 'out' if side == 'text' else 'out.pt'
    expected = 2 if side in ('both', bad) else 0  # what is not written may be broken
    assert run(out, '--side', side) == expected and Path(out).exists() == (expected == 0)
    assert (f'the model: {name} holds NaN or infinity' in capsys.readouterr().err) == (expected == 2)


def test_lora_goes_into_the_weights_if_told(capsys):
    import open_clip

    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=dict(lora=dict(rank=2)))
    ours = trained(dict(sides, type='OpenCLIPImageEncoder'), dict(sides, type='OpenCLIPTextEncoder'))
    assert run('out.pt') == 2 and run('out.pt', '--side', 'image') == 2 and run('text', '--side', 'text') == 2
    said = capsys.readouterr().err
    assert said.count('error: ') == 3 and 'lora_down' in said and '--merge' in said
    assert run('out.pt', '--merge') == 0 and run('image.pt', '--merge', '--side', 'image') == 0
    plain = open_clip.CLIP(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg']).eval()
    open_clip.load_checkpoint(plain, 'out.pt')
    with torch.no_grad():
        equal(plain.encode_image(IMAGES), ours.encode_image(IMAGES))
        equal(plain.encode_text(open_clip.tokenize(TEXTS, 24)), ours.encode_text(TEXTS))
    alone = torch.load('image.pt', weights_only=True)
    assert alone.keys() == plain.visual.state_dict().keys()


@pytest.mark.parametrize('merge', [False, True])
@pytest.mark.parametrize('family', ['CLIP', 'Siglip'])
def test_a_two_tower_folder_of_transformers_goes_there_and_back(family, merge, tmp_path, capsys):
    transformers = pytest.importorskip('transformers')
    size = dict(projection_size=48) if family == 'Siglip' else {}
    source = write_two_towers(tmp_path / 'm', family, **size)
    adapter = dict(adapter='lora_adapter') if merge and family == 'CLIP' else dict(trainable=True)
    if adapter.get('adapter'):
        pytest.importorskip('adapters')
    loss = dict(loss=dict(type='SigLIPLoss')) if family == 'Siglip' else {}
    ours = trained(dict(type='HuggingFaceImageEncoder', model=source, trainable=True),
                   dict(type='HuggingFaceTextEncoder', model=source, **adapter), **loss)
    if adapter.get('adapter'):
        assert run('out') == 2 and "the text tower has adapter='lora_adapter'" in capsys.readouterr().err
    assert run('out', *(['--merge'] if merge else [])) == 0
    model, report = getattr(transformers, f'{family}Model').from_pretrained('out', output_loading_info=True)
    assert not report['missing_keys'] and not report['unexpected_keys']
    padding = dict(padding='max_length', max_length=24) if family == 'Siglip' else dict(padding=True)
    batch = transformers.AutoTokenizer.from_pretrained('out')(TEXTS, return_tensors='pt', **padding)
    batch = {key: batch[key] for key in (['input_ids'] if family == 'Siglip' else ['input_ids', 'attention_mask'])}
    with torch.no_grad():
        equal(model.eval().get_image_features(pixel_values=IMAGES), ours.encode_image(IMAGES))
        equal(model.get_text_features(**batch), ours.encode_text(TEXTS))
        equal(model.logit_scale.reshape(()), ours.logit_scale)
        if family == 'Siglip':
            equal(model.logit_bias.reshape(()), ours.logit_bias)


@pytest.mark.parametrize('adapter', [None, 'ia3_adapter', 'bottleneck_adapter'])
def test_a_language_model_becomes_a_folder_of_transformers(adapter, tmp_path, capsys):
    transformers = pytest.importorskip('transformers')
    source = write_bert(tmp_path / 'm', hidden_size=128)
    how = dict(trainable=True) if adapter is None else dict(adapter=adapter)
    if adapter:
        pytest.importorskip('adapters')
    ours = trained(dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True),
                   dict(type='HuggingFaceTextEncoder', model=source, text_pooler='mean', **how),
                   image_head=dict(type='ProjectionMLP', num_layers=1))
    assert run('out') == 2 and 'the model has image_head' in capsys.readouterr().err
    assert run('out', '--drop-heads') == 2 and 'no two sides of one model' in capsys.readouterr().err
    with torch.no_grad():
        expected = ours.encode_text(TEXTS)
    if adapter == 'bottleneck_adapter':
        assert run('merged', '--side', 'text', '--merge') == 2 and 'cannot be merged' in capsys.readouterr().err
        assert run('out', '--side', 'text') == 0
        equal(build_text_encoder('out').encode(TEXTS), expected)
        assert (HuggingFaceTextEncoder('out', 'mean').encode(TEXTS) - expected).abs().max() > 1e-4
        return
    assert run('out', '--side', 'text', '--merge') == 0
    model, report = transformers.AutoModel.from_pretrained('out', output_loading_info=True)
    assert not report['unexpected_keys'] and {name.partition('.')[0] for name in report['missing_keys']} <= {'pooler'}
    batch = transformers.AutoTokenizer.from_pretrained('out')(TEXTS, padding=True, return_tensors='pt')
    with torch.no_grad():
        states, mask = model.eval()(**batch).last_hidden_state, batch['attention_mask'][..., None]
        found = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if adapter else 1e-6)


def test_a_folder_is_written_anew_and_nothing_but_a_model_replaced(capsys):
    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    ours = trained(dict(sides, type='OpenCLIPImageEncoder'), dict(sides, type='OpenCLIPTextEncoder'))
    Path('out').write_text('a file')
    for left in ('old.bin', '1/old.json'):
        assert run('out', '--side', 'text', '--overwrite') == 0
        assert sorted(path.name for path in Path('out').iterdir()) == ['text_encoder.json', 'weights.safetensors']
        equal(build_text_encoder('out').encode(TEXTS), ours.encode_text(TEXTS).detach())
        Path('out', left).parent.mkdir(exist_ok=True)
        Path('out', left).write_text('{}')
    assert not list(Path().glob('.out*'))
    Path('notes').mkdir()
    Path('notes/mine').write_text('kept')
    Path('weights.pt').mkdir()
    for arguments, said in ((['notes', '--side', 'text'], 'holds something else than a model'),
                            (['weights.pt'], 'is a folder, and is to be a file')):
        assert run(*arguments, '--overwrite') == 2 and said in capsys.readouterr().err
    assert Path('notes/mine').read_text() == 'kept'


def test_the_further_heads_of_protoclip_are_heads_too(capsys):
    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
    config = dict(type='ProtoCLIP', loss=dict(type='InfoNCELoss'), projection=dict(type='ProtoCLIPHead'),
                  image_encoder=dict(sides, type='OpenCLIPImageEncoder'),
                  text_encoder=dict(sides, type='OpenCLIPTextEncoder'))
    Path('run.py').write_text(f'model = {config!r}\n')
    model = MODELS.build(config)
    save_tensors('latest.pth', dict(state_dict=model.state_dict()))
    assert run('out.pt') == 2 and 'the model has text_proto_head and image_proto_head' in capsys.readouterr().err
    assert run('out.pt', '--drop-heads') == 0
    state = torch.load('out.pt', weights_only=True)
    assert state['logit_scale'].item() == pytest.approx(model.logit_scale.item()) and 'logit_scale_proto' not in state


def test_what_cannot_be_written(tmp_path, capsys):
    pytest.importorskip('transformers')
    sides = dict(arch='ViT-B-32', model_args=TINY_CLIP)
    trained(dict(sides, type='OpenCLIPImageEncoder', trainable=True),
            dict(sides, type='OpenCLIPTextEncoder', n_prompt=2))
    for arguments, reason in (
            (['out'], 'name must end with .pt, .pth, .safetensors'), (['out.pt', '--side', 'text'], 'leave .pt out'),
            (['out.pt'], 'the text tower has prompt'), (['o', '--cfg-options', 'model.loss.type=InfoLoss'], 'InfoLoss'),
            (['o.pt', '--cfg-options', 'model.image_head.type=ProjectionMLP'], 'is no checkpoint of this model')):
        assert run(*arguments) == 2
        assert reason in capsys.readouterr().err
    assert run('image.safetensors', '--side', 'image') == 0
    assert 'conv1.weight' in load_file('image.safetensors') and not Path('out.pt').exists()
    Path('run.py').write_text('x = 1')
    assert run('o.pt') == 2 and 'run.py has no model' in capsys.readouterr().err
