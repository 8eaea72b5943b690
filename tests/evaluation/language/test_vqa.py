"""Questions about twelve drawn scenes, answered by towers that know what is drawn, and by hand."""

import json
import re

import pytest
import torch
from banks import BankOfIds

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.make.scenes import COLOURS, COUNTS, SHAPES, val_scenes, write_scenes
from clear.datasets.readers.pairs.vqa_v2 import count_answers, read_questions
from clear.evaluation.language.vqa import answering
from clear.evaluation.language.vqa.answering import Asked, VisualQuestionAnswering, best_candidates, best_possible
from clear.evaluation.language.vqa.answers import answer_accuracy
from clear.evaluation.language.vqa.candidates import FrequencyFilter
from clear.evaluation.language.vqa.templates import RuleTemplates, Template
from clear.evaluation.online_tasks import FeatureRows
from clear.evaluation.task import TaskData

ATTRIBUTES = [*COLOURS, *SHAPES, *map(str, COUNTS)]


class Towers(torch.nn.Module):
    """A text is the sum of the attributes that it names, those that it denies taken off. A scene has some, and lacks
    the others.
    """

    def encode_text(self, texts, absent=0.0):
        rows = []
        for text in texts:
            row = torch.full((len(ATTRIBUTES) + 1,), absent)
            row[-1] = 0.1  # a direction that all share
            for place, word in enumerate(ATTRIBUTES):
                if re.search(rf'\bno {word}', text):
                    row[place] = -1
                elif re.search(rf'\b{word}s?\b', text):
                    row[place] = 1
            rows.append(row)
        return torch.stack(rows)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'scenes'
    write_scenes(root, per_kind=1)
    return root


def bank(folder, **more):
    ids = [str(name) for name in read_images(dict(type='VQAv2', data_root=str(folder)))['id'].to_pylist()]
    scenes = {scene.number: scene for scene in val_scenes()}
    shown = [scenes[int(name[-16:-4])] for name in ids]
    return BankOfIds(ids, Towers().encode_text([f'{scene.count} {scene.colour} {scene.shape}' for scene in shown],
                                          absent=-0.2), **more)


def task(folder, **options):
    return VisualQuestionAnswering(str(folder), by='first_words', **options)


def test_towers_that_share_what_is_drawn_answer_every_question(folder):
    result = task(folder).run(Towers(), TaskData(bank={'test': bank(folder)}))
    # Nine of ten people gave a number as a digit and one as a word: all of them are right.
    assert result.extras['metrics'] == dict(accuracy=1.0, yes_no=1.0, number=1.0, other=1.0)
    assert (result.metric, result.value, result.extras['n_test']) == ('accuracy', 1.0, 60)
    assert result.extras['n_of_type'] == {'other': 24, 'number': 12, 'yes/no': 24}
    assert result.extras['rules'] == {'color': 12, 'what': 12, 'how many': 12, 'there': 24}
    assert result.extras['ceiling'] == result.extras['type_agreement'] == 1


def test_questions_about_unreadable_images_are_counted_and_left_out(folder):
    result = task(folder).run(Towers(), TaskData(bank={'test': bank(folder, unreadable=[0, 5])}))
    assert result.value == 1 and (result.extras['n_test'], result.extras['unreadable']) == (50, 10)
    with pytest.raises(DataError, match='no image that a question is about'):
        VisualQuestionAnswering(str(folder)).run(Towers(), TaskData(bank={'test': bank(folder, unreadable=range(12))}))


def test_a_share_of_the_questions_is_drawn_by_the_seed(folder):
    data = TaskData(bank={'test': bank(folder)})
    results = [VisualQuestionAnswering(str(folder), max_questions=7, seed=seed).run(Towers(), data)
               for seed in (0, 0, 1)]
    counts = [result.extras['n_of_type'] for result in results]
    assert counts[0] == counts[1] != counts[2] and sum(counts[0].values()) == 7


def test_candidates_are_the_frequent_answers_of_the_other_split(folder):
    counts = count_answers(folder, 'train')
    assert {kind: set(some) for kind, some in counts.items()} == {
        'other': {*COLOURS, *SHAPES}, 'number': {*map(str, COUNTS)}, 'yes/no': {'yes', 'no'}}
    frequent = FrequencyFilter(counts, k=3)
    template = RuleTemplates().generate('What is it?')
    assert frequent.candidates(template, 'other') == ['circle', 'square', 'triangle']  # 16 each, the colours 12
    assert frequent.candidates(template, 'yes/no') == ['yes', 'no']
    merged = FrequencyFilter({'number': {'two': 2, '2': 2, '3': 3, 'the': 9}}, k=5)
    assert merged.candidates(template, 'number') == ['2', '3']
    with pytest.raises(DataError, match="No answers to questions of the kind 'other'"):
        merged.candidates(template, 'other')
    everything = VisualQuestionAnswering(str(folder)).run(Towers(), TaskData(bank={'test': bank(folder)}))
    # 'the shape in the picture is red' is as true of a red circle, in these towers, as that it is a circle.
    assert everything.extras['metrics'] == dict(accuracy=0.8, yes_no=1.0, number=1.0, other=0.5)
    few = VisualQuestionAnswering(str(folder), k=3).run(Towers(), TaskData(bank={'test': bank(folder)}))
    right = few.extras['metrics']
    # Colours are not among the candidates any more, nor is the number four.
    assert right['other'] == 0.5 and right['number'] == pytest.approx(0.75)
    assert few.extras['ceiling'] == pytest.approx(few.value)


def asked(*rows):
    return [Asked(image, Template(statement, 'mine'), candidates) for image, statement, candidates in rows]


@pytest.mark.parametrize('block', [1, 5, 10_000])
def test_the_best_statement_is_that_of_a_loop(monkeypatch, block):
    monkeypatch.setattr(answering, '_TEXTS_PER_BLOCK', block)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 5, generator=generator)

    def encode(texts):
        assert len({*texts}) == len(texts)
        return torch.stack([torch.randn(5, generator=torch.Generator().manual_seed(sum(map(ord, text))))
                            for text in texts])

    some = ['red', 'blue', 'green']
    questions = asked(*((row % 6, f'{row % 4} is [mask]', some if row % 3 else ['1', '2']) for row in range(13)))
    found = best_candidates(images, questions, encode, 'a picture: {}')
    for each, best in zip(questions, found):
        texts = [f'a picture: {each.template.fill(answer)}' for answer in each.candidates]
        cosine = [torch.cosine_similarity(images[each.image], encode([text])[0], dim=0) for text in texts]
        assert best == [int(torch.stack(cosine).argmax())]


@pytest.mark.parametrize('num_answers', [2, 5, 11, 100])
def test_statements_of_one_vector_are_equally_similar_wherever_they_stand(num_answers):
    generator = torch.Generator().manual_seed(0)
    vectors = {str(number): torch.randn(512, generator=generator) for number in range(num_answers)}
    vectors[str(num_answers - 1)] = vectors['0']
    images = vectors['0'] + 0.1 * torch.randn(7, 512, generator=generator)
    asked = [Asked(row, Template('[mask]', 'other'), [*vectors]) for row in range(7)]
    found = best_candidates(images, asked, lambda texts: torch.stack([vectors[text] for text in texts]))
    assert found == [[0, num_answers - 1]] * 7


def test_of_equally_similar_statements_the_worst_answer_counts(folder):
    class Blind(torch.nn.Module):
        def encode_text(self, texts):
            return torch.ones(len(texts), len(ATTRIBUTES) + 1)

    images = torch.ones(1, 3)
    found = best_candidates(images, asked((0, '[mask]', ['a', 'b'])), lambda texts: torch.ones(len(texts), 3))
    assert found == [[0, 1]]
    result = VisualQuestionAnswering(str(folder)).run(Blind(), TaskData(bank={'test': bank(folder)}))
    assert result.extras['metrics'] == dict(accuracy=0.0, yes_no=0.0, number=0.0, other=0.0)


def test_the_ceiling_is_the_best_that_candidates_allow():
    answers = ['Blue'] * 6 + ['navy'] * 3 + ['a sea']
    for candidates in (['blue', 'navy', 'sea'], ['navy', 'sea'], ['sea'], ['red']):
        assert best_possible(candidates, answers) == max(answer_accuracy(each, answers) for each in candidates)
    assert best_possible(['yes'], ['yes'] * 10) == 1 and best_possible(['yes'], ['Yes'] * 10) == 0


def test_answer_types_may_be_taken_from_the_answers(folder, tmp_path):
    root = tmp_path / 'scenes'
    write_scenes(root, per_kind=1)
    file = root / 'v2_OpenEnded_mscoco_val2014_questions.json'
    file.write_text(file.read_text().replace('How many', 'What amount of'))
    data = TaskData(bank={'test': bank(folder)})
    given = VisualQuestionAnswering(str(root), answer_types='given').run(Towers(), data)
    by_question = VisualQuestionAnswering(str(root)).run(Towers(), data)
    assert given.extras['ceiling'] == 1 and by_question.extras['ceiling'] == pytest.approx(0.8)
    assert by_question.extras['type_agreement'] == given.extras['type_agreement'] == pytest.approx(0.8)


@pytest.mark.parametrize('options, message', [
    (dict(split='test'), 'split'), (dict(split='train'), 'cannot be counted'), (dict(templates='llm'), 'templates'),
    (dict(candidates='all'), 'candidates'), (dict(templates='t5'), 't5 is None; expected a local folder'),
    (dict(candidates='t5', t5='google/flan-t5-large'), "t5 is 'google/flan-t5-large'; expected a local folder"),
    (dict(k=0), 'k is 0'), (dict(prompt='a photo'), 'where the statement goes'), (dict(definition='x'), 'definition'),
    (dict(answer_types='x'), 'answer_types'), (dict(max_questions=0), 'max_questions'),
    (dict(demonstrations={'what': [('a', 'b')]}), 'one \\[mask\\]'), (dict(by='x'), 'by'),
    (dict(demonstrations={'x': []}), 'demonstrations')])
def test_wrong_options_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        VisualQuestionAnswering('nowhere', **options)


def test_data_that_do_not_fit_are_refused(folder, tmp_path):
    asking, good = task(folder), bank(folder)
    with pytest.raises(ConfigError, match='needs an encoder of text'):
        asking.run(torch.nn.Identity(), TaskData(bank={'test': good}))
    with pytest.raises(ConfigError, match='finds images by their id'):
        asking.run(Towers(), TaskData(bank={'test': object()}))
    with pytest.raises(DataError, match='dimensions, the bank holds 3'):
        asking.run(Towers(), TaskData(bank={'test': BankOfIds(good.ids, torch.ones(12, 3))}))
    with pytest.raises(DataError, match='does not exist'):
        VisualQuestionAnswering(str(tmp_path / 'nowhere')).run(Towers(), TaskData(bank={'test': good}))


def test_a_question_with_one_answer_is_refused_before_anything_is_encoded(folder, tmp_path):
    root = tmp_path / 'scenes'
    write_scenes(root, per_kind=1)
    file = root / 'v2_mscoco_val2014_annotations.json'
    content = json.loads(file.read_text())
    content['annotations'][-1]['answers'] = content['annotations'][-1]['answers'][:1]
    file.write_text(json.dumps(content))

    class Never(torch.nn.Module):
        def encode_text(self, texts):
            raise AssertionError

    with pytest.raises(DataError, match='has 1 answers of people'):
        task(root).run(Never(), TaskData(bank={'test': bank(folder)}))
    assert task(root, definition='plain').run(Towers(), TaskData(bank={'test': bank(folder)})).value < 1


def test_changed_files_change_the_fingerprint(tmp_path):
    root = tmp_path / 'scenes'
    write_scenes(root, per_kind=1)
    task = VisualQuestionAnswering(str(root))
    before = task.files_fingerprint()
    assert before == task.files_fingerprint()
    for name in ('v2_OpenEnded_mscoco_val2014_questions.json', 'v2_mscoco_val2014_annotations.json',
                 'v2_mscoco_train2014_annotations.json'):
        content = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(content, indent=1))
        assert task.files_fingerprint() != before
        before = task.files_fingerprint()
    assert [question.number for question in read_questions(root)][:2] == [1000, 1001]


def test_features_of_a_model_that_trains_are_found_by_id(folder):
    images = read_images(dict(type='VQAv2', data_root=str(folder)))
    features = bank(folder).features
    valid = torch.arange(12) != 3
    data = TaskData(bank={'test': FeatureRows(images, features, valid)})
    result = task(folder).run(Towers(), data)
    assert result.value == 1 and result.extras['unreadable'] == 5
    rows = FeatureRows(images.select(range(6)), features[:6], valid[:6])
    with pytest.raises(DataError, match="there is no image 'val2014/COCO_val2014_000000000007.jpg'"):
        task(folder).run(Towers(), TaskData(bank={'test': rows}))
