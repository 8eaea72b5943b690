"""Adapters by the `adapters` library: what trains, equality with the library, save, merge, what is refused."""

import logging

import pytest
import torch
from safetensors.torch import load_file
from tiny_text import TEXTS, write_bert, write_language_model, write_roberta, write_two_towers

from clear.core.errors import CheckpointError, ConfigError
from clear.models import HuggingFaceTextEncoder, build_text_encoder, lock_tower
from clear.models.adapters.library import ADAPTERS, MERGEABLE, PER_PASS

library = pytest.importorskip('adapters')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    torch.manual_seed(0)
    return write_bert(tmp_path_factory.mktemp('bert') / 'model', hidden_size=128)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    torch.manual_seed(0)
    return write_two_towers(tmp_path_factory.mktemp('clip') / 'model', 'CLIP', hidden_size=128)


@pytest.fixture(scope='module')
def gpt2(tmp_path_factory):
    torch.manual_seed(0)
    return write_language_model(tmp_path_factory.mktemp('gpt2') / 'model', 'GPT2')


def build(folder, kind, **more):
    torch.manual_seed(1)
    pooler = 'cls' if 'clip' in folder else 'mean'
    return HuggingFaceTextEncoder(folder, pooler, adapter=kind, **more)


def train(encoder, steps=3):
    torch.manual_seed(2)
    optimiser = torch.optim.SGD([value for value in encoder.parameters() if value.requires_grad], lr=0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        encoder.train()(TEXTS).square().sum().backward()
        optimiser.step()
    return encoder


@pytest.mark.parametrize('family', ['bert', 'clip'])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_the_adapter_trains_and_the_base_does_not(request, family, kind, caplog, tmp_path):
    bert = request.getfixturevalue(family)
    pooler = 'cls' if family == 'clip' else 'mean'
    caplog.set_level(logging.INFO, logger='clear')
    encoder = build(bert, kind)
    assert f"adapter '{kind}': " in caplog.text and 'parameters beside' in caplog.text
    base = {name: value.clone() for name, value in encoder.named_parameters() if not value.requires_grad}
    added = {name: value.clone() for name, value in encoder.named_parameters() if value.requires_grad}
    plain = dict(HuggingFaceTextEncoder(bert, pooler).named_parameters())
    assert {name for name in base if name in plain} == set(plain) and not set(added) & set(plain)
    before = encoder.encode(TEXTS)
    assert encoder.train().model.training  # Dropout acts where an adapter trains.
    train(encoder)
    assert all(torch.equal(value, base[name]) for name, value in encoder.named_parameters() if name in base)
    after = encoder.encode(TEXTS)
    assert (after - before).abs().max() > 1e-4
    encoder.save(tmp_path / 'saved')
    # The library's own save takes prefixes out of the layers of a network that trains on.
    assert torch.equal(encoder.encode(TEXTS), after)
    loaded = build_text_encoder(tmp_path / 'saved')
    torch.testing.assert_close(loaded.encode(TEXTS), after)
    assert loaded.fingerprint() == encoder.fingerprint() != build(bert, kind).fingerprint()
    # Beside the adapter lies the base as it was, for those who have not the library.
    assert 'adapter' not in (tmp_path / 'saved' / 'config.json').read_text()
    assert load_file(tmp_path / 'saved' / 'model.safetensors').keys() - {'logit_scale'} == \
        HuggingFaceTextEncoder(bert, pooler).model.state_dict().keys()
    torch.testing.assert_close(HuggingFaceTextEncoder(tmp_path / 'saved', pooler).encode(TEXTS),
                               HuggingFaceTextEncoder(bert, pooler).encode(TEXTS))


@pytest.mark.parametrize('family', ['bert', 'clip'])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_equals_the_library(request, family, kind):
    """A network of its own with the library's adapter, active, and the trained weights: embeddings at 1e-5."""
    transformers = pytest.importorskip('transformers')
    folder = request.getfixturevalue(family)
    encoder = train(build(folder, kind)).eval()
    if family == 'bert':
        model = transformers.AutoModel.from_pretrained(folder)
    else:
        config = transformers.CLIPConfig.from_pretrained(folder)
        config.text_config.projection_dim = config.projection_dim  # The library reads that of the whole in pairs alone.
        model = transformers.CLIPTextModelWithProjection.from_pretrained(folder, config=config.text_config)
    library.init(model)
    model.add_adapter('other', config=ADAPTERS[kind](library))
    model.train_adapter('other')
    assert {name.replace('.other.', '.added.') for name, value in model.named_parameters() if value.requires_grad} >= \
        {name.removeprefix('model.') for name, value in encoder.named_parameters() if value.requires_grad}
    start = {name: value.clone() for name, value in model.state_dict().items() if '.other.' in f'{name}.'}
    state = {name.replace('.added', '.other'): value for name, value in encoder.model.state_dict().items()}
    assert start.keys() <= state.keys() and any(not torch.equal(state[name], value) for name, value in start.items())
    model.load_state_dict(state, strict=False)
    batch = encoder.tokenizer(TEXTS, padding=True, return_tensors='pt')
    batch = {key: batch[key] for key in ('input_ids', 'attention_mask')}
    with torch.no_grad():
        outputs, found = model.eval()(**batch), encoder(TEXTS)
        if family == 'bert':
            mask = batch['attention_mask'][..., None]
            expected = (outputs.last_hidden_state * mask).sum(1) / mask.sum(1)
        else:
            expected = outputs.text_embeds
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        plain = HuggingFaceTextEncoder(folder, 'mean' if family == 'bert' else 'cls')(TEXTS)
    assert (found - plain).abs().max() > 1e-3, 'the adapter must matter'


@pytest.mark.parametrize('family', ['bert', 'clip', 'gpt2'])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_merging(request, family, kind, tmp_path):
    """Of weights as training leaves them: with biases of zero the library's own merge of IA3 would do."""
    folder = request.getfixturevalue(family)
    if (family, kind) == ('gpt2', 'dummy'):
        pytest.skip('its width does not divide')
    encoder = build(folder, kind)
    torch.manual_seed(2)
    with torch.no_grad():
        for value in encoder.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    expected, before = encoder.encode(TEXTS), {name: value.clone() for name, value in encoder.state_dict().items()}
    if kind not in MERGEABLE:
        with pytest.raises(ConfigError, match=f"adapter='{kind}' cannot be merged.*only lora_adapter and ia3_adapter"):
            encoder.save_merged(tmp_path / 'merged')
        return
    encoder.save_merged(tmp_path / 'merged')
    plain = build_text_encoder(tmp_path / 'merged')
    assert plain.adapter is None and not any('added' in name for name, _ in plain.named_parameters())
    torch.testing.assert_close(plain.encode(TEXTS), expected, rtol=0, atol=1e-5)
    # The encoder goes on with its adapter beside the base, to the bit.
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(encoder.encode(TEXTS), expected)


def test_unless_told_otherwise(bert):
    encoder = build(bert, 'lora_adapter', trainable=True)
    assert all(value.requires_grad for value in encoder.parameters())
    report = lock_tower(encoder)
    assert all('.added.' in name for name in report.trainable) and not report.stays_in_eval
    assert not encoder.runs_without_grad
    report = lock_tower(encoder, True, '!layer.1.output')
    assert any('layer.1.output.dense.weight' in name for name in report.trainable)


@pytest.mark.parametrize('kind', ADAPTERS)
def test_checkpointing_with_an_adapter(bert, kind):
    """The library gives every module a class of its own; blocks are found by their names."""
    if kind in PER_PASS:
        with pytest.raises(ConfigError, match='has parts that last for one forward pass'):
            build(bert, kind, trainable=dict(grad_checkpointing=True))
        return
    gradients = []
    for more in ({}, dict(grad_checkpointing=True)):
        encoder = build(bert, kind, trainable=dict(locked=True, **more))
        torch.manual_seed(0)
        encoder.eval()(TEXTS).square().sum().backward()
        gradients.append([value.grad for value in encoder.parameters() if value.requires_grad])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_what_takes_no_adapter(bert, tmp_path, monkeypatch):
    import sys

    with pytest.raises(ConfigError, match='the text side of siglip takes none'):
        HuggingFaceTextEncoder(write_two_towers(tmp_path / 'siglip', 'Siglip'), adapter='lora_adapter')
    with pytest.raises(ConfigError, match='save: this encoder has LoRA changes'):
        HuggingFaceTextEncoder(bert, trainable=dict(lora=dict(rank=2))).save(tmp_path / 'x')
    with pytest.raises(ConfigError, match="adapter='dummy' cannot be added to RobertaModel: .*phm_dim"):
        HuggingFaceTextEncoder(write_roberta(tmp_path / 'small'), 'mean', adapter='dummy')
    with pytest.raises(ConfigError, match="adapter is 'lora'; expected 'bottleneck_adapter'"):
        HuggingFaceTextEncoder(bert, adapter='lora')
    build(bert, 'lora_adapter').save(tmp_path / 'lora')
    with pytest.raises(CheckpointError, match='adapter.safetensors holds another adapter: 12 of 6 parameters do not'):
        build(bert, 'ia3_adapter', adapter_weights=tmp_path / 'lora' / 'adapter.safetensors')
    with pytest.raises(ConfigError, match='this encoder has no adapter'):
        HuggingFaceTextEncoder(bert).save_merged(tmp_path)
    monkeypatch.setitem(sys.modules, 'adapters', None)
    with pytest.raises(ConfigError, match=r"adapter='unipelt' needs adapters: pip install 'clear-framework\[align\]'"):
        HuggingFaceTextEncoder(bert, adapter='unipelt')
