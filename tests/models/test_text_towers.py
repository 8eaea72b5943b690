"""The contract of text encoders, over every maker, with tiny random weights in folders."""

import copy

import pytest
import torch
from tiny_text import (
    TEXTS,
    TINY_CLIP,
    write_bert,
    write_language_model,
    write_roberta,
    write_two_towers,
    write_word_vectors,
)

from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.models import OpenCLIPTextEncoder, build_text_encoder
from clear.registry import MODELS

WRITERS = {
    'cls': lambda folder: (write_bert(folder), {}),
    'cls_before_pooler': lambda folder: (write_bert(folder), {}),
    'mean': lambda folder: (write_bert(folder), {}),
    'PromptBERT': lambda folder: (write_bert(folder), {}),
    'logits': lambda folder: (write_bert(folder, 'BertForSequenceClassification', num_labels=7), {}),
    'roberta': lambda folder: (write_roberta(folder), dict(text_pooler='mean')),
    'roberta_prompt': lambda folder: (write_roberta(folder), dict(text_pooler='PromptBERT')),
    **{name: lambda folder, name=name: (write_language_model(folder, name), dict(text_pooler='mean'))
       for name in ('T5', 'GPT2', 'MPNet', 'DistilBert')},
    'CLIP': lambda folder: (write_two_towers(folder, 'CLIP'), dict(text_pooler='cls')),
    'Siglip': lambda folder: (write_two_towers(folder, 'Siglip'), dict(text_pooler='cls')),
    'AltCLIP': lambda folder: (write_two_towers(folder, 'AltCLIP'), dict(text_pooler='cls')),
    'ChineseCLIP': lambda folder: (write_two_towers(folder, 'ChineseCLIP'), dict(text_pooler='cls')),
}
OPEN_CLIP = {
    'open_clip': dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP),
    'open_clip_prompt': dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, n_prompt=4),
    'open_clip_coca': dict(type='OpenCLIPTextEncoder', arch='coca_ViT-B-32', model_args=TINY_CLIP),
}
NAMES = [*OPEN_CLIP, *WRITERS, 'sentence', 'words']


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Name -> config of a text encoder; folders are written once."""
    known = {}

    def build(name):
        if name in OPEN_CLIP:
            return OPEN_CLIP[name]
        pytest.importorskip('transformers')
        if name not in known:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(name) / 'model'
            if name == 'words':
                pytest.importorskip('sentence_transformers')
                known[name] = dict(type='SentenceTransformerEncoder', model=write_word_vectors(folder))
            elif name == 'sentence':
                pytest.importorskip('sentence_transformers')
                known[name] = dict(type='SentenceTransformerEncoder', model=write_bert(folder))
            else:
                path, more = WRITERS[name](folder)
                known[name] = dict(type='HuggingFaceTextEncoder', model=path, **{'text_pooler': name, **more})
        return known[name]

    return build


@pytest.mark.parametrize('name', NAMES)
def test_contract(config, name, tmp_path):
    cfg = config(name)
    before = copy.deepcopy(cfg)
    torch.manual_seed(0)
    encoder = build_text_encoder(cfg)
    assert cfg == before and type(encoder) is MODELS.get(cfg['type'])
    features = encoder(TEXTS)
    assert features.shape == (len(TEXTS), encoder.embed_dim) and features.dtype == torch.float32
    assert (features[0] - features[1]).abs().max() > 1e-4
    # Input order, whatever the lengths and whoever else is in the batch.
    plain = encoder.encode(TEXTS, use_pooler=True)
    torch.testing.assert_close(plain, features.detach(), rtol=1e-4, atol=1e-5)
    for batch_size in (1, 2, 100):
        torch.testing.assert_close(encoder.encode(TEXTS, batch_size, use_pooler=True), plain, rtol=1e-4, atol=1e-5)
    shuffled = [3, 1, 5, 0, 2, 4]
    torch.testing.assert_close(encoder.encode([TEXTS[row] for row in shuffled], 2, use_pooler=True), plain[shuffled],
                               rtol=1e-4, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.embed_dim) and not encoder.encode(TEXTS).requires_grad
    # Saved and loaded: the same encoder, and the same fingerprint.
    encoder.save(tmp_path / 'saved')
    loaded = build_text_encoder(tmp_path / 'saved')
    assert torch.equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    assert loaded.fingerprint() == encoder.fingerprint() and len(encoder.fingerprint()) == 64
    assert (loaded.logit_scale, loaded.logit_bias) == pytest.approx((encoder.logit_scale, encoder.logit_bias))
    assert str(tmp_path) not in str(loaded.config)


@pytest.mark.parametrize('name', NAMES)
def test_frozen_and_trainable(config, name):
    torch.manual_seed(0)
    frozen = build_text_encoder(config(name))
    added = [key for key, value in frozen.named_parameters() if value.requires_grad]
    assert added == (['model.prompt'] if name == 'open_clip_prompt' else [])
    assert not any(module.training for module in frozen.train().modules())
    torch.manual_seed(0)
    encoder = build_text_encoder(config(name), trainable=True)
    assert encoder.fingerprint() == frozen.fingerprint()
    assert not encoder.training and encoder.train().model.training
    before = encoder.fingerprint()
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(TEXTS).square().sum().backward()
    # What no text reaches is frozen: several processes would wait for its gradient.
    unused = {key for key, value in encoder.named_parameters() if value.grad is None}
    assert unused == {key for key, value in encoder.named_parameters() if not value.requires_grad}
    assert all('.pooler.' in key for key in unused)
    optimiser.step()
    assert encoder.fingerprint() != before
    training = [module.training for module in encoder.modules()]
    encoder.encode(TEXTS)
    assert [module.training for module in encoder.modules()] == training


@pytest.mark.parametrize('name', NAMES)
def test_empty_and_long_texts(config, name, caplog):
    encoder = build_text_encoder(config(name))
    for texts, reason in ((['a', ' \n'], r'text 1 of 2 is empty'), (['a', None], r'text 1 of 2 is None'),
                          ('a', 'list of strings, got str'), ([], 'got no texts')):
        with pytest.raises(DataError, match=reason):
            encoder(texts)
    long = ['a small red cat ' * 2500, 'the old ship ' * 4000]  # 10,000 words and more
    features = encoder.encode(long)
    encoder.encode(long)
    assert features.isfinite().all() and (features[0] - features[1]).abs().max() > 1e-5
    said = [record for record in caplog.records if 'is cut to' in record.message]
    assert len(said) == (0 if name == 'words' else 1)
    assert encoder.num_truncated([*long, 'cat', long[0]]) == (0 if name == 'words' else 3)
    if said and name not in ('PromptBERT', 'roberta_prompt'):
        assert f'is cut to {encoder.max_length}' in said[0].message


@pytest.mark.parametrize('name', NAMES)
def test_a_text_is_truncated_if_its_last_word_does_not_matter(config, name):
    encoder = build_text_encoder(config(name))
    limit = encoder._token_limit()
    if limit is None:
        pytest.skip('reads all of a text')
    for count in range(limit - 8, limit + 2):
        texts = [' '.join(['cat'] * (count - 1) + [last]) for last in ('cat', 'dog')]
        first, second = encoder.encode(texts)
        assert (encoder.num_truncated(texts) == 0) == bool((first - second).abs().max() > 2e-6), count


def test_a_state_dict_goes_over(config):
    torch.manual_seed(0)
    first = build_text_encoder(config('open_clip'))
    second = build_text_encoder(config('open_clip'))
    assert first.fingerprint() != second.fingerprint()
    second.load_state_dict(first.state_dict())
    assert first.fingerprint() == second.fingerprint()


def test_what_is_no_text_encoder_is_said(tmp_path):
    with pytest.raises(ConfigError, match='TimmEncoder is no text encoder'):
        build_text_encoder(dict(type='TimmEncoder', arch='test_resnet'))
    with pytest.raises(ConfigError, match=r'holds no text encoder that was saved with save\(\)'):
        build_text_encoder(tmp_path)
    with pytest.raises(ConfigError, match='unexpected keyword'):
        build_text_encoder(dict(OPEN_CLIP['open_clip'], poler=3))


def test_a_missing_library_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'transformers', None)
    monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
    for kind in ('HuggingFaceTextEncoder', 'SentenceTransformerEncoder'):
        with pytest.raises(ConfigError, match=r"needs \w+: pip install 'clear-framework\[align\]'$"):
            build_text_encoder(dict(type=kind, model='bert-base-uncased'))


class TestOpenCLIP:
    def test_equals_open_clip_for_files_of_either_class(self, tmp_path):
        """A file of a whole model, its text parts below `text.` or not; of equal width the image tower tempts."""
        import open_clip
        from open_clip.model import CLIP, CustomTextCLIP

        for kind in (CLIP, CustomTextCLIP):
            model = kind(embed_dim=16, text_cfg=TINY_CLIP['text_cfg'], vision_cfg=TINY_CLIP['vision_cfg'],
                         init_logit_scale=1.5).eval()
            torch.save(model.state_dict(), tmp_path / 'w.pt')
            encoder = OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP, weights=tmp_path / 'w.pt')
            tokens = open_clip.tokenize(TEXTS, context_length=24)
            with torch.no_grad():
                torch.testing.assert_close(encoder(TEXTS), model.encode_text(tokens))
            assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
            assert not encoder.load_report.missing
        with pytest.raises(CheckpointError, match='Only 0 of'):
            torch.save({'visual.conv1.weight': torch.zeros(3)}, tmp_path / 'x.pt')
            OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP, weights=tmp_path / 'x.pt')

    def test_the_scale_to_begin_with(self, tmp_path):
        """SigLIP's is 10 and -10 (L17), whatever the library's config says."""
        assert OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP).logit_scale == pytest.approx(1 / 0.07)
        pytest.importorskip('transformers')
        from tiny_text import word_tokenizer

        word_tokenizer().save_pretrained(tmp_path)
        small = dict(embed_dim=16, text_cfg=dict(width=32, heads=2, layers=1, vocab_size=60))
        siglip = OpenCLIPTextEncoder('ViT-B-16-SigLIP', model_args=small, tokenizer=tmp_path)
        assert (siglip.logit_scale, siglip.logit_bias) == (10, -10)
        siglip.save(tmp_path / 'saved')
        assert torch.equal(build_text_encoder(tmp_path / 'saved').encode(TEXTS), siglip.encode(TEXTS))

    def test_bad_input(self):
        for arguments, reason in ((dict(arch='ViT-B-31'), "no model 'ViT-B-31'. Nearest: "),
                                  (dict(arch='ViT-B-32', tag='opena'), "no weights 'opena' .* Nearest: 'openai'"),
                                  (dict(arch='ViT-B-32', tag='openai'), 'set allow_network=True, or give the file'),
                                  (dict(arch='ViT-B-32', tag='openai', weights='x.pt'), 'either tag or weights'),
                                  (dict(arch='ViT-B-16-SigLIP', n_prompt=4), 'at the end token'),
                                  (dict(arch='ViT-B-32', n_prompt=75), r'expected 0 ... 74'),
                                  (dict(arch='roberta-ViT-B-32'),
                                   "is 'roberta-base' of Hugging Face|needs transformers")):
            with pytest.raises(ConfigError, match=reason):
                OpenCLIPTextEncoder(**{'model_args': dict(text_cfg=dict(width=32, heads=2, layers=1)), **arguments})

    def test_prompt_vectors_move_the_end_token(self):
        """Zero-length change: with prompts set to word embeddings the text is the one with those words in it."""
        torch.manual_seed(0)
        plain = OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP)
        prompted = OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP, n_prompt=4)
        assert prompted.max_length == plain.max_length - 4 == 20
        std = torch.cat([OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP, n_prompt=4).model.prompt.flatten()
                         for _ in range(4)]).detach().std()
        assert std == pytest.approx(0.02, rel=0.15)
        prompted.load_state_dict(plain.state_dict(), strict=False)
        ids = plain.tokenizer(['a photo of a'])[0, 1:5]
        with torch.no_grad():
            prompted.model.prompt.copy_(plain.model.token_embedding(ids))
        texts = ['cat', 'small red dog', 'x ' * 40]
        torch.testing.assert_close(prompted(texts), plain([f'a photo of a {text}' for text in texts]))
        prompted(texts).sum().backward()
        assert prompted.model.prompt.grad.abs().sum() > 0 and prompted.model.positional_embedding.grad is None

    def test_texts_that_come_again_have_the_same_tokens(self, monkeypatch):
        """Known and new ones in any order, and beyond what is remembered; no text is tokenized twice while it is."""
        import open_clip

        monkeypatch.setattr('clear.models.towers.text.open_clip.REMEMBERED_IDS', 24 * 6 + 5)
        tokens = OpenCLIPTextEncoder('ViT-B-32', model_args=TINY_CLIP).tokenizer
        inner, asked = tokens.inner, []
        tokens.inner = lambda texts, **options: (asked.append([*texts]), inner(texts, **options))[1]
        for texts in ('ab', 'ba', 'bcb', 'cab', 'defg', 'ga', 'abcdefg', 'g' * 7, 'a'):
            texts = [f'a photo of {text}' for text in texts]
            found = tokens(texts)
            assert found.dtype == torch.long and torch.equal(found, open_clip.tokenize(texts, context_length=24))
            found.zero_()
        asked = [''.join(text[-1] for text in texts) for texts in asked]
        assert asked == ['ab', 'c', 'defg', 'a', 'abcdefg', 'ggggggg']
        assert len(tokens._known) <= 6
