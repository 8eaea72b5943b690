"""A tiny T5 with random weights, in a folder: what it fills in, and how likely it finds fillings."""

import pytest
import torch
from tiny_text import WORDS, bert_tokenizer, write_bert

from clear.core.errors import ConfigError
from clear.datasets.make.scenes import write_scenes
from clear.evaluation.language.vqa.answering import VisualQuestionAnswering
from clear.evaluation.language.vqa.candidates import FrequencyFilter
from clear.evaluation.language.vqa.t5 import DEMONSTRATIONS, GAP, LocalT5, T5Filter, T5Templates, check_demonstrations
from clear.evaluation.language.vqa.templates import MASK, RuleTemplates, Template

pytest.importorskip('transformers')
ANSWERS = ['red', 'blue', 'a small cat', 'two', 'old red ship']


def write_t5(folder, gaps=('<extra_id_0>', '<extra_id_1>')):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    special = ['<pad>', '</s>', '<unk>', *gaps, MASK]
    vocab = {token: row for row, token in enumerate([*special, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token='<unk>'))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(single='$A </s>', special_tokens=[('</s>', 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token='<unk>', pad_token='<pad>', eos_token='</s>',
                                        additional_special_tokens=[*gaps, MASK])
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=37, num_layers=2, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1, dropout_rate=0.5)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_t5(tmp_path_factory.mktemp('t5'))


@pytest.fixture(scope='module')
def t5(folder):
    return LocalT5(folder, batch_size=2)


def test_likelihood_of_each_filling_is_that_of_one_pass(t5):
    found = t5.log_likelihood(f'a photo of the {MASK} car', ANSWERS)
    source = t5.tokenizer('a photo of the <extra_id_0> car', return_tensors='pt').input_ids
    for answer, value in zip(ANSWERS, found.tolist()):
        target = t5.tokenizer(f'<extra_id_0> {answer} <extra_id_1>', add_special_tokens=False).input_ids
        total, seen = 0.0, [0]  # the decoder begins with the padding token
        for place, token in enumerate(target):
            with torch.no_grad():
                logits = t5.model(input_ids=source, decoder_input_ids=torch.tensor([seen])).logits[0, -1]
            total += float(logits.log_softmax(0)[token]) if place else 0.0
            seen.append(token)
        assert value == pytest.approx(total, abs=1e-4)


def test_the_likeliest_answers_are_kept_and_yes_and_no_always(t5):
    template = Template(f'the car is {MASK}', 'mine')
    frequent = FrequencyFilter({'other': {answer: 9 - place for place, answer in enumerate(ANSWERS)}}, k=99)
    scores = t5.log_likelihood(template.statement, frequent.ranked['other'])
    order = sorted(range(5), key=lambda place: -scores[place])
    assert T5Filter(t5, frequent, k=2).candidates(template, 'other') == [frequent.ranked['other'][place]
                                                                         for place in order[:2]]
    assert T5Filter(t5, frequent, k=9).candidates(template, 'other') == frequent.ranked['other']
    assert T5Filter(t5, frequent, k=1).candidates(template, 'yes/no') == ['yes', 'no']


def test_what_is_written_into_a_gap_is_cut_out(t5, monkeypatch):
    one, other = t5.fill([f'the {GAP} car', f'a photo of a big {GAP}'])
    assert t5.fill([f'a photo of a big {GAP}', f'the {GAP} car']) == [other, one]
    assert '<' not in one + other
    monkeypatch.setattr(t5.tokenizer, 'batch_decode', lambda rows, **_: [
        '<extra_id_0> the bus is  [mask] <extra_id_1> red </s>', 'the bus </s> <pad>'])
    assert t5.fill([GAP, GAP]) == ['the bus is [mask]', 'the bus']


def test_statements_are_written_after_demonstrations_of_the_kind(t5, monkeypatch):
    prompts, written = [], ['the [mask] bus', 'the bus is [mask] old', 'no gap', '[mask] [mask]']
    monkeypatch.setattr(t5, 'fill', lambda texts: prompts.extend(texts) or written)
    questions = ['What color is the bus?', 'Is the bus old?', 'What is the man holding?', 'Where is the man?']
    color, old, *others = T5Templates(t5).generate_all(questions)
    assert (color.statement, color.rule, color.words) == ('the [mask] bus', 't5', {})
    asked, said = DEMONSTRATIONS['color'][0]
    assert prompts[0].startswith(f'Question: {asked} Statement: {said}\n')
    assert prompts[0].endswith('Question: What color is the bus? Statement: <extra_id_0>')
    assert prompts[0].count(GAP) == 1 and prompts[0].count(MASK) == len(DEMONSTRATIONS['color'])
    assert prompts[0].count('Question:') == len(DEMONSTRATIONS['color']) + 1
    assert old.fill('no') == 'the bus is not old' and old.fill('yes') == 'the bus is old'
    assert others == RuleTemplates().generate_all(questions[2:])


def test_demonstrations_are_of_known_kinds():
    assert check_demonstrations(DEMONSTRATIONS) == DEMONSTRATIONS
    assert {*DEMONSTRATIONS} <= {'how many', 'color', 'yes/no', 'where', 'who', 'what'}


def test_the_task_runs_with_a_t5(folder, tmp_path):
    from test_vqa import Towers, bank

    from clear.evaluation.task import TaskData

    root = tmp_path / 'scenes'
    write_scenes(root, per_kind=1)
    task = VisualQuestionAnswering(str(root), templates='t5', candidates='t5', t5=folder, k=2, vocabulary=5)
    result = task.run(Towers(), TaskData(bank={'test': bank(root)}))
    assert result.extras['n_test'] == 60 and 0 <= result.value <= result.extras['ceiling'] < 1
    before = task.files_fingerprint()
    (tmp_path / 'other').mkdir()
    other = write_t5(tmp_path / 'other', gaps=('<extra_id_0>', '<extra_id_1>', '<extra_id_2>'))
    assert VisualQuestionAnswering(str(root), templates='t5', t5=other).files_fingerprint() != before


def test_a_folder_without_a_t5_is_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    for name in ('nothing', 'empty'):
        with pytest.raises(ConfigError, match='expected a local folder with a T5'):
            LocalT5(tmp_path / name)
    (tmp_path / 'empty' / 'config.json').write_text('{')
    with pytest.raises(ConfigError, match='cannot be read'):
        LocalT5(tmp_path / 'empty')
    write_bert(tmp_path / 'bert')
    assert bert_tokenizer(tmp_path / 'bert') is not None
    with pytest.raises(ConfigError, match='holds a bert, expected a T5'):
        LocalT5(tmp_path / 'bert')
    with pytest.raises(ConfigError, match='has no <extra_id_0> and <extra_id_1>'):
        LocalT5(write_t5(tmp_path / 'gapless', gaps=('<x>',)))
