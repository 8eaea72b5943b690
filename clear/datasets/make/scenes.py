"""Drawn scenes of some shapes of one colour, with questions, answers, captions and hypotheses: image-text evaluation
without a download, in the files and folders of VQA v2 and SNLI-VE.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clear.core.checks import check_whole
from clear.core.seeding import derive_seed
from clear.datasets.make.writing import new_folder

COLOURS = dict(red=(210, 40, 40), green=(40, 170, 60), blue=(50, 70, 220), yellow=(230, 200, 40))
SHAPES = ('circle', 'square', 'triangle')
COUNTS = (1, 2, 3, 4)
WORDS = ('', 'one', 'two', 'three', 'four')
# What a picture does not show.
UNSEEN = ('heavy', 'soft', 'old')
NUM_TEST = 12
_SIZE = 64
_PEOPLE = 10


@dataclass(frozen=True)
class Scene:
    """Some equal shapes of one colour.

    Attributes:
        number: of the image, and of its drawing.
    """

    number: int
    colour: str
    shape: str
    count: int

    @property
    def things(self) -> str:
        return self.shape if self.count == 1 else f'{self.shape}s'

    def caption(self) -> str:
        return f'{WORDS[self.count]} {self.colour} {self.things}'


def train_scenes(per_kind: int = 10) -> list[Scene]:
    """Every colour, shape and count, `per_kind` times."""
    kinds = list(product(COLOURS, SHAPES, COUNTS))
    return [Scene(100 + number, *kinds[number % len(kinds)]) for number in range(per_kind * len(kinds))]


def val_scenes() -> list[Scene]:
    """Every colour with every shape once, by turns one to four of them: twelve."""
    return [Scene(1 + number, colour, shape, COUNTS[number % len(COUNTS)])
            for number, (colour, shape) in enumerate(product(COLOURS, SHAPES))]


def write_scenes(out: str | Path, *, per_kind: int = 10, overwrite: bool = False) -> None:
    """Write scenes to train on and twelve to test on.

    | file | holds |
    |---|---|
    | `v2_*.json`, `train2014/`, `val2014/` | questions and answers as VQA v2 has them |
    | `snli_ve_{train,dev,test}.jsonl`, `flickr30k-images/` | pairs as SNLI-VE has them; premises of 'train' are texts |
    | `pairs.csv` | captions of the images to train on, several of each |

    Args:
        per_kind: how many to train on of each colour, shape and count.

    Raises:
        DataError: if `out` holds something else.
    """
    check_whole('per_kind', per_kind, 1)
    with new_folder(out, replace=overwrite) as folder:
        train, test = train_scenes(per_kind), val_scenes()
        for split, scenes in (('train', train), ('val', test)):
            paths = {scene.number: f'{split}2014/COCO_{split}2014_{scene.number:012}.jpg' for scene in scenes}
            for scene in scenes:
                _save(draw(scene), folder / paths[scene.number])
            _write_questions(folder, split, scenes)
            if split == 'train':
                _write_pairs(folder / 'pairs.csv', scenes, paths)
        for scene in test:
            _save(draw(scene), folder / 'flickr30k-images' / f'{scene.number}.jpg')
        half = len(COLOURS) * len(SHAPES) * len(COUNTS)
        for split, scenes in (('train', train[:half]), ('dev', train[-half:]), ('test', test)):
            lines = [json.dumps(pair) for scene in scenes for pair in entailments(scene)]
            (folder / f'snli_ve_{split}.jsonl').write_text('\n'.join(lines) + '\n')


def draw(scene: Scene) -> Image.Image:
    """64 x 64 pixels; where shapes lie and how large they are comes from the number of the scene."""
    rng = np.random.default_rng(derive_seed('scene', scene.number))
    image = Image.new('RGB', (_SIZE, _SIZE), (int(rng.integers(180, 240)),) * 3)
    pen = ImageDraw.Draw(image)
    half = _SIZE // 2
    for cell in rng.permutation(4)[:scene.count].tolist():
        radius = float(rng.uniform(9, 13))
        x, y = (half * place + half / 2 + float(rng.uniform(-2, 2)) for place in divmod(cell, 2))
        if scene.shape == 'circle':
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[scene.colour])
        elif scene.shape == 'square':
            pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[scene.colour])
        else:
            corners = [(x + radius * math.sin(angle), y - radius * math.cos(angle))
                       for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
            pen.polygon(corners, fill=COLOURS[scene.colour])
    return image


def questions(scene: Scene) -> Iterator[tuple[str, str, str, Sequence[str]]]:
    """(question, its first words, answer type, what ten people said) about colour, shape, number and presence."""
    verb = 'is' if scene.count == 1 else 'are'
    other = SHAPES[(SHAPES.index(scene.shape) + 1) % len(SHAPES)]
    yield f'What color {verb} the {scene.things}?', f'what color {verb} the', 'other', [scene.colour] * _PEOPLE
    yield 'What shape is in the picture?', 'what', 'other', [scene.shape] * _PEOPLE
    yield (f'How many {scene.shape}s are there?', 'how many', 'number',
           [str(scene.count)] * (_PEOPLE - 1) + [WORDS[scene.count]])
    yield f'Is there a {scene.shape} in the picture?', 'is there a', 'yes/no', ['yes'] * _PEOPLE
    yield f'Is there a {other} in the picture?', 'is there a', 'yes/no', ['no'] * _PEOPLE


def entailments(scene: Scene) -> Iterator[dict[str, str]]:
    """Pairs of a scene: a hypothesis about one attribute that it has, has otherwise, or may have."""
    colours, counts = list(COLOURS), WORDS[1:]
    wrong = dict(colour=colours[(colours.index(scene.colour) + 1) % len(colours)],
                 shape=SHAPES[(SHAPES.index(scene.shape) + 1) % len(SHAPES)], count=counts[scene.count % len(counts)])
    right = dict(colour=scene.colour, shape=scene.shape, count=WORDS[scene.count])
    for label, words in (('entailment', right), ('contradiction', wrong)):
        for said in (f'something is {words["colour"]}', f'there is a {words["shape"]}',
                     f'there are {words["count"]} shapes'):
            yield _pair(scene, said, label)
    for word in UNSEEN:
        yield _pair(scene, f'something is {word}', 'neutral')
    if scene.number % 6 == 0:
        yield _pair(scene, 'it is nice', '-')


def _pair(scene: Scene, hypothesis: str, label: str) -> dict[str, str]:
    return dict(Flickr30K_ID=str(scene.number), sentence1=scene.caption(), sentence2=hypothesis, gold_label=label)


def _write_questions(folder: Path, split: str, scenes: Sequence[Scene]) -> None:
    asked, answered = [], []
    for scene in scenes:
        for place, (text, first_words, kind, answers) in enumerate(questions(scene)):
            number = scene.number * 1000 + place
            asked.append(dict(image_id=scene.number, question=text, question_id=number))
            answered.append(dict(
                question_type=first_words, multiple_choice_answer=answers[0], image_id=scene.number, answer_type=kind,
                answers=[dict(answer=answer, answer_confidence='yes', answer_id=person)
                         for person, answer in enumerate(answers, 1)], question_id=number))
    shared = dict(info=dict(description='drawn scenes'), data_type='mscoco', data_subtype=f'{split}2014')
    (folder / f'v2_OpenEnded_mscoco_{split}2014_questions.json').write_text(
        json.dumps(dict(**shared, task_type='Open-Ended', questions=asked)))
    (folder / f'v2_mscoco_{split}2014_annotations.json').write_text(json.dumps(dict(**shared, annotations=answered)))


def _write_pairs(path: Path, scenes: Sequence[Scene], paths: dict[int, str]) -> None:
    with path.open('w', newline='') as file:
        table = csv.writer(file, lineterminator='\n')
        table.writerow(['filepath', 'title'])
        for scene in scenes:
            verb = 'is' if scene.count == 1 else 'are'
            absent = SHAPES[(SHAPES.index(scene.shape) + scene.number % 2 + 1) % len(SHAPES)]
            for caption in (scene.caption(), f'the {scene.things} {verb} {scene.colour}',
                            f'there are {scene.count} {scene.shape}s',
                            f'the shape in the picture is {scene.shape}',
                            f'there is a {scene.shape} in the picture', f'there is no {absent} in the picture'):
                table.writerow([paths[scene.number], caption])


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
