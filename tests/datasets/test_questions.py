"""Readers of VQA v2 and SNLI-VE, on drawn scenes in their files, and files that are not what they should be."""

import json
import shutil

import pytest

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.make.scenes import SHAPES, train_scenes, val_scenes, write_scenes
from clear.datasets.readers.pairs.snli_ve import LABELS, read_entailment
from clear.datasets.readers.pairs.vqa_v2 import count_answers, read_questions

QUESTIONS, ANSWERS = 'v2_OpenEnded_mscoco_val2014_questions.json', 'v2_mscoco_val2014_annotations.json'


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'scenes'
    write_scenes(root, per_kind=1)
    return root


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / 'scenes')


def test_questions_are_read_with_their_images_and_answers(folder):
    images = read_images(dict(type='VQAv2', data_root=str(folder)))
    assert images.texts('path') == [f'val2014/COCO_val2014_{number:012}.jpg' for number in range(1, 13)]
    assert images.open_image(0).size == (64, 64) and images['id'].equals(images['path'])
    first, *others = read_questions(folder)
    assert (first.number, first.image, first.text) == (1000, 'val2014/COCO_val2014_000000000001.jpg',
                                                       'What color is the circle?')
    assert (first.first_words, first.answer_type, first.answers) == ('what color is the', 'other', ('red',) * 10)
    assert len(others) == 59 and others[1].answers == ('1',) * 9 + ('one',)
    assert len(read_images(dict(type='VQAv2', data_root=str(folder), split='train'))) == 48


def test_answers_are_counted_by_type_and_by_first_words(folder):
    notes = json.loads((folder / ANSWERS).read_text())['annotations']
    for by, key in (('answer_type', 'answer_type'), ('first_words', 'question_type')):
        counts = count_answers(folder, 'val', by)
        assert sum(sum(some.values()) for some in counts.values()) == len(notes) == 60
        for kind, some in counts.items():
            for answer, count in some.items():
                assert count == sum(note[key] == kind and note['multiple_choice_answer'] == answer for note in notes)
    assert count_answers(folder, by='first_words')['what color is the'].keys() == {'red', 'green', 'blue', 'yellow'}


def test_hypotheses_are_read_with_their_labels(folder):
    images = read_images(dict(type='SNLIVE', data_root=str(folder)))
    assert len(images) == 12 and images.texts('path')[0] == 'flickr30k-images/1.jpg'
    pairs = read_entailment(folder)
    assert len(pairs) == 12 * 9 + 2 and sum(pair.label < 0 for pair in pairs) == 2
    first = pairs[0]
    assert (first.image, first.premise, first.hypothesis, LABELS[first.label]) == (
        'flickr30k-images/1.jpg', 'one red circle', 'something is red', 'entailment')
    assert len(read_entailment(folder, 'train')) > len(pairs)


def test_scenes_are_different_pictures_of_every_kind(folder):
    scenes = [*train_scenes(2), *val_scenes()]
    assert len({scene.number for scene in scenes}) == len(scenes) == 108
    assert len({(scene.colour, scene.shape) for scene in val_scenes()}) == 12
    assert {scene.caption() for scene in val_scenes()} <= {scene.caption() for scene in train_scenes()}
    pictures = {path.read_bytes() for path in folder.rglob('*.jpg')}
    assert len(pictures) == 48 + 12  # those of Flickr are those of COCO
    lines = (folder / 'pairs.csv').read_text().splitlines()
    assert len(lines) == 1 + 6 * 48 and any(shape in lines[1] for shape in SHAPES)


def changed(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize('name, change, message', [
    (QUESTIONS, lambda content: content.pop('data_subtype'), "KeyError: 'data_subtype'"),
    (QUESTIONS, lambda content: content['questions'][0].update(question=None), 'None is no text'),
    (QUESTIONS, lambda content: content['questions'][0].update(image_id=-1), 'no number'),
    (QUESTIONS, lambda content: content['questions'][1].update(question_id=1000), 'question 1000 is there twice'),
    (QUESTIONS, lambda content: content['questions'].append(dict(question_id=7, image_id=1, question='?')),
     'no answers to question 7'),
    (QUESTIONS, lambda content: content['questions'].clear(), 'has no questions'),
    (ANSWERS, lambda content: content['annotations'][0].update(answers=['red']), 'no answer'),
    (ANSWERS, lambda content: content['annotations'][0].pop('answer_type'), "KeyError: 'answer_type'"),
    (ANSWERS, lambda content: content['annotations'][1].update(question_id=1000), 'question 1000 is there twice')])
def test_files_of_questions_that_are_wrong_are_refused(folder, name, change, message):
    changed(folder, name, change)
    with pytest.raises(DataError, match=message):
        read_questions(folder)


@pytest.mark.parametrize('change, message', [
    (lambda content: content.update(data_subtype='../../etc'), 'etc'),
    (lambda content: content['questions'][0].update(image_id=99), 'is not in')])
def test_images_that_are_elsewhere_are_refused(folder, change, message):
    changed(folder, QUESTIONS, change)
    with pytest.raises(DataError, match=message):
        read_images(dict(type='VQAv2', data_root=str(folder)))


@pytest.mark.parametrize('line, message', [
    ('[]', 'is no object'), ('{', 'no valid JSON'), (dict(gold_label='maybe'), 'is no label'),
    (dict(Flickr30K_ID='../1'), 'no number of an image'), (dict(sentence2=' '), 'no sentence'),
    (dict(sentence1=None), 'no sentence')])
def test_lines_of_hypotheses_that_are_wrong_are_refused(folder, line, message):
    file = folder / 'snli_ve_test.jsonl'
    if isinstance(line, dict):
        line = json.dumps(json.loads(file.read_text().splitlines()[0]) | line)
    file.write_text(f'\n{line}\n')
    with pytest.raises(DataError, match=rf'snli_ve_test.jsonl:2: .*{message}|:2 is {message}'):
        read_entailment(folder)


def test_missing_files_and_other_splits_are_refused(folder, tmp_path):
    for kind, read in (('VQAv2', read_questions), ('SNLIVE', read_entailment)):
        with pytest.raises(ConfigError, match='split'):
            read(folder, 'all')
        with pytest.raises(DataError, match='does not exist'):
            read_images(dict(type=kind, data_root=str(tmp_path / 'nowhere')))
    (folder / 'flickr30k-images' / '3.jpg').unlink()
    with pytest.raises(DataError, match='3.jpg'):
        read_images(dict(type='SNLIVE', data_root=str(folder)))
    (folder / 'snli_ve_dev.jsonl').write_text('')
    with pytest.raises(DataError, match='has no pairs'):
        read_entailment(folder, 'dev')
    with pytest.raises(DataError, match='other content'):
        write_scenes(folder)
