"""A T5 of a local folder: it turns questions into statements, and says which answers fit one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.evaluation.language.vqa.candidates import YES_NO, CandidateFilter
from clear.evaluation.language.vqa.templates import MASK, RuleTemplates, Template, question_type
from clear.models.towers.hugging_face import HubSource

GAP, _END = '<extra_id_0>', '<extra_id_1>'
_MOST_TOKENS = 512
_MOST_NEW_TOKENS = 48
# What a language model sees before each question. Ours: those of the paper are not known to us.
DEMONSTRATIONS = {
    'how many': [('How many dogs are on the beach?', 'there are [mask] dogs on the beach'),
                 ('How many wheels does the cart have?', 'the cart has [mask] wheels'),
                 ('How many of the men wear ties?', '[mask] of the men wear ties')],
    'color': [('What color is the train?', 'the train is [mask]'),
              ("What color are the woman's boots?", "the woman's boots are [mask]")],
    'yes/no': [('Is there a clock in the room?', 'there is [mask] a clock in the room'),
               ('Does the boy like his cake?', 'the boy does [mask] like his cake'),
               ('Are the two cats asleep?', 'the two cats are [mask] asleep')],
    'where': [('Where is the lamp?', 'the lamp is on the [mask]'),
              ('Where are the people sitting?', 'the people are sitting in the [mask]')],
    'who': [('Who is holding the umbrella?', 'the [mask] is holding the umbrella')],
    'what': [('What is the girl eating?', 'the girl is eating [mask]'),
             ('What kind of tree is this?', 'this is a [mask] tree'),
             ('Which animal is larger?', 'the [mask] is larger'),
             ('Why is the street wet?', 'the street is wet because of [mask]')],
}


class LocalT5:
    """Fills a gap in a text, and says how likely given fillings are.

    Args:
        folder: of transformers: config, weights and tokenizer of a T5.

    Raises:
        ConfigError: if there is no such folder, or it holds no T5.
        CheckpointError: if weights are missing.
    """

    def __init__(self, folder: str | Path, *, device: str = 'cpu', batch_size: int = 64):
        source = HubSource(check_t5_folder(folder), 't5')
        config = source.config()
        if config.model_type != 't5':
            raise ConfigError(f't5: the folder {folder} holds a {config.model_type}, expected a T5.')
        self.tokenizer = source.tokenizer()
        known = self.tokenizer.get_vocab()
        if GAP not in known or _END not in known:
            raise ConfigError(f't5: the tokenizer in {folder} has no {GAP} and {_END}, so the model fills no gaps.')
        self.model = source.model(source.library.T5ForConditionalGeneration, config, True)[0].to(device)
        self.device, self.batch_size = device, check_whole('batch_size', batch_size, 1)

    @torch.inference_mode()
    def fill(self, texts: Sequence[str]) -> list[str]:
        """What the model writes, greedily, into the one `GAP` of each text."""
        filled = []
        for start in range(0, len(texts), self.batch_size):
            batch = self._tokens(list(texts[start:start + self.batch_size]))
            written = self.model.generate(**batch, max_new_tokens=_MOST_NEW_TOKENS, do_sample=False, num_beams=1)
            for each in self.tokenizer.batch_decode(written[:, 1:], skip_special_tokens=False):
                inside = each.partition(GAP)[2] if GAP in each else each
                for token in (_END, self.tokenizer.eos_token, self.tokenizer.pad_token):
                    inside = inside.partition(token)[0] if token and token in inside else inside
                filled.append(' '.join(inside.split()))
        return filled

    @torch.inference_mode()
    def log_likelihood(self, text: str, fillings: Sequence[str]) -> Tensor:
        """(A,) log of the probability that the model fills the `MASK` of a text so, end of the gap included."""
        source = self._tokens([text.replace(MASK, GAP)])
        states = self.model.get_encoder()(**source).last_hidden_state  # (1, L, D)
        found = []
        for start in range(0, len(fillings), self.batch_size):
            wanted = [f'{GAP} {filling} {_END}' for filling in fillings[start:start + self.batch_size]]
            labels = self._tokens(wanted, add_special_tokens=False)
            target = labels['input_ids'].masked_fill(labels['attention_mask'] == 0, -100)
            logits = self.model(encoder_outputs=(states.expand(len(wanted), -1, -1),), labels=target,
                                attention_mask=source['attention_mask'].expand(len(wanted), -1)).logits
            # What opens the gap is the same for all: only what follows counts.
            picked = logits.log_softmax(2)[:, 1:].gather(2, target[:, 1:, None].clamp(min=0)).squeeze(2)
            found.append(picked.masked_fill(target[:, 1:] < 0, 0).sum(1))
        return torch.cat(found).cpu()

    def _tokens(self, texts: list[str], **options: bool) -> dict[str, Tensor]:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors='pt',
                               **options)
        return {name: batch[name].to(self.device) for name in ('input_ids', 'attention_mask')}


class T5Templates:
    """Statements that a T5 writes after it has seen some of the same kind; where it writes none, those of the rules.

    The prompt is a list of `Question: ... Statement: ...`, the last with a gap (TAP-C, arXiv:2203.07190, section 3.1;
    its wording and number of demonstrations are not known to us).

    Args:
        demonstrations: kind of question, as in `DEMONSTRATIONS` -> [(question, statement with one `MASK`), ...].

    Raises:
        ConfigError: for a statement without a mask, or a kind that no rule knows.
    """

    def __init__(self, t5: LocalT5, demonstrations: Mapping[str, Sequence[Sequence[str]]] | None = None):
        self.t5, self.demonstrations = t5, check_demonstrations(demonstrations or DEMONSTRATIONS)

    def generate_all(self, questions: Sequence[str]) -> list[Template]:
        by_rule = [RuleTemplates().generate(question) for question in questions]
        written = self.t5.fill([self._prompt(*pair) for pair in zip(questions, by_rule)])
        return [rule if statement.count(MASK) != 1 else
                Template(statement, 't5', {'yes': '', 'no': 'not'} if question_type(question) == 'yes/no' else {})
                for question, rule, statement in zip(questions, by_rule, written)]

    def _prompt(self, question: str, by_rule: Template) -> str:
        kind = {'there': 'yes/no', 'other': 'what'}.get(by_rule.rule, by_rule.rule)
        seen = self.demonstrations.get(kind) or [each for some in self.demonstrations.values() for each in some]
        return '\n'.join([*(f'Question: {asked} Statement: {said}' for asked, said in seen),
                          f'Question: {question} Statement: {GAP}'])


class T5Filter:
    """Of the answers that another filter gives, the k that a T5 finds likeliest in the statement.

    Args:
        answers: gives the vocabulary of each kind of question.
    """

    def __init__(self, t5: LocalT5, answers: CandidateFilter, k: int = 100):
        self.t5, self.answers, self.k = t5, answers, check_whole('k', k, 1)

    def candidates(self, template: Template, kind: str) -> list[str]:
        """Likeliest first; equally likely ones in the order of the vocabulary. 'yes' and 'no' are not filtered."""
        vocabulary = self.answers.candidates(template, kind)
        if kind == 'yes/no' or len(vocabulary) <= self.k:
            return list(YES_NO) if kind == 'yes/no' else list(vocabulary)
        scores = self.t5.log_likelihood(template.statement, vocabulary)
        return [vocabulary[place] for place in scores.sort(descending=True, stable=True).indices[:self.k].tolist()]


def check_t5_folder(folder: str | Path | None) -> Path:
    """A folder that may hold a T5.

    Raises:
        ConfigError: if there is none.
    """
    # Without the file transformers takes letters of the path for the name of a model: 'empty' is an MPT to it.
    if folder is None or not (Path(folder) / 'config.json').is_file():
        raise ConfigError(f't5 is {folder!r}; expected a local folder with a T5 of transformers (config.json, weights '
                          "and tokenizer, e.g. of google/flan-t5-large): t5='weights/flan-t5-large'. Without one use "
                          "templates='rules' and candidates='frequency'.")
    return Path(folder)


def check_demonstrations(given: object) -> dict[str, list[tuple[str, str]]]:
    """Demonstrations as `T5Templates` takes them.

    Raises:
        ConfigError: naming the first that is none.
    """
    if not isinstance(given, Mapping) or not given or not {*given} <= {*DEMONSTRATIONS}:
        raise ConfigError(f'demonstrations are {given!r:.80}; expected a dict with keys among '
                          f'{", ".join(map(repr, DEMONSTRATIONS))}.')
    for kind, pairs in given.items():
        for pair in pairs:
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair) or pair[1].count(MASK) != 1:
                raise ConfigError(f'demonstrations[{kind!r}] holds {pair!r}; expected (question, statement with one '
                                  f'{MASK}).')
    return {kind: [(asked, said) for asked, said in pairs] for kind, pairs in given.items()}
