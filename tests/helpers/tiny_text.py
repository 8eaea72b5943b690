"""Text models of a few thousand weights, written to folders as their libraries write theirs."""

from pathlib import Path

WORDS = ['the', 'a', 'an', 'of', 'in', 'on', 'photo', 'picture', 'drawing', 'cat', 'dog', 'car', 'ship', 'plane',
         'truck', 'horse', 'frog', 'bird', 'red', 'blue', 'small', 'big', 'this', 'sentence', 'means', ':', '"',
         "'", '.', ',', 'two', 'many', 'runs', 'sits', 'old', 'new']
TEXTS = ['a photo of a cat', 'dog', 'the small red ship in a picture', 'two birds , many frog',
         'the old car sits on the new truck . a drawing of the plane', 'blue']
TINY_CLIP = dict(embed_dim=16, text_cfg=dict(width=32, heads=2, layers=3, context_length=24),
                 vision_cfg=dict(width=32, head_width=16, layers=3, patch_size=8, image_size=32))
_SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37)


def word_tokenizer(first='<s>', end='</s>', pad='<pad>', mask=None):
    """A tokenizer of transformers with one id per word, a start and an end token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [token for token in (pad, '<unk>', first, mask) if token]
    vocab = {token: row for row, token in enumerate([*special, *WORDS, *([end] if end not in special else [])])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token='<unk>'))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single=f'{first} $A {end}', special_tokens=[(first, vocab[first]), (end, vocab[end])])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token='<unk>', pad_token=pad, bos_token=first,
                                   eos_token=end, mask_token=mask, cls_token=first, sep_token=end)


def bert_tokenizer(folder):
    from transformers import BertTokenizerFast

    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / 'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS]))
    return BertTokenizerFast(str(Path(folder) / 'vocab.txt'))


def write_bert(folder, cls='BertModel', **config):
    """BERT: a pooler, absolute positions, WordPiece."""
    import transformers

    tokenizer = bert_tokenizer(folder)
    kind = getattr(transformers, cls)
    config = transformers.BertConfig(**{**_SIZES, 'vocab_size': len(tokenizer), 'max_position_embeddings': 64,
                                        **config})
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_roberta(folder):
    """RoBERTa: positions that begin after the padding's."""
    from transformers import RobertaConfig, RobertaModel

    tokenizer = word_tokenizer(mask='<mask>')
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=tokenizer.pad_token_id,
                           bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **_SIZES)
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_language_model(folder, name):
    """T5's encoder, GPT-2, MPNet or DistilBERT."""
    import transformers

    tokenizer = word_tokenizer(mask='<mask>')
    cls, config = {
        'T5': (transformers.T5EncoderModel, transformers.T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=37, num_layers=2, num_heads=2)),
        'GPT2': (transformers.GPT2Model, transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64)),
        'MPNet': (transformers.MPNetModel, transformers.MPNetConfig(
            vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=0, **_SIZES)),
        'DistilBert': (transformers.DistilBertModel, transformers.DistilBertConfig(
            vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=2, hidden_dim=37, max_position_embeddings=64)),
    }[name]
    cls(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_two_towers(folder, family, **text):
    """CLIP, SigLIP, AltCLIP or Chinese-CLIP."""
    import transformers

    tokenizer = bert_tokenizer(folder) if family == 'ChineseCLIP' else word_tokenizer()
    ids = dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
               eos_token_id=tokenizer.eos_token_id, max_position_embeddings=24)
    extra = dict(AltCLIP=dict(project_dim=24, max_position_embeddings=26),
                 Siglip=dict(projection_size=20)).get(family, {})
    vision = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37, image_size=32,
                  patch_size=8)
    config = getattr(transformers, f'{family}Config')(
        text_config={**_SIZES, **ids, **extra, **text}, vision_config=vision,
        **({} if family == 'Siglip' else dict(projection_dim=20)))
    getattr(transformers, f'{family}Model')(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_word_vectors(folder, dim=5):
    """A model of word vectors as GloVe's: mean over the vectors of the known words."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    generator = torch.Generator().manual_seed(0)
    table = Path(folder).parent / 'vectors.txt'
    table.write_text('\n'.join(f'{word} ' + ' '.join(f'{value:.4f}' for value in torch.randn(dim, generator=generator))
                               for word in WORDS if word not in '":'))
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

    words = models.WordEmbeddings.from_text_file(str(table), tokenizer=WhitespaceTokenizer())
    pooling = models.Pooling(words.get_word_embedding_dimension(), 'mean')
    SentenceTransformer(modules=[words, pooling], device='cpu').save(str(folder))
    return str(folder)
