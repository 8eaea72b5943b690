"""Predictions for ELEVATER's leaderboard: one JSON file for each set and seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_number, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import atomic_writer, inside, read_json, write_json
from clear.datasets.readers.elevater.sets import stored_set
from clear.evaluation.elevater.knowledge import AGGREGATES, MOST_GPT3
from clear.models.alignment.pair import TowerPair

MODES = ('zero_shot', 'linear_probe', 'fine_tune')
DIGITS = 6
SUM_TOLERANCE = 1e-3
KEYS = ('model_name', 'dataset_name', 'num_trainable_params', 'num_params', 'num_visual_params', 'num_backbone_params',
        'n_shot', 'rnd_seeds', 'predictions')
_FOLDERS = {'linear_probe': 'linear_probe', 'fine_tune': 'finetuning'}


@dataclass(frozen=True)
class ParameterCounts:
    """What the leaderboard compares models by.

    Attributes:
        num_trainable_params: those that the adaptation trains, 0 for zero-shot.
        num_params: all, with the classifier.
        num_visual_params: of the image tower with its head.
        num_backbone_params: of the towers with their heads, as they were trained before.
    """

    num_trainable_params: float
    num_params: int
    num_visual_params: int
    num_backbone_params: int

    @classmethod
    def of(cls, encoder: nn.Module, classifier: int = 0, trainable: int = 0) -> ParameterCounts:
        """The counts of a pair of towers, or of an encoder of images alone.

        Args:
            classifier: parameters that the adaptation adds.
            trainable: parameters that it trains, those of the classifier among them.
        """
        total = sum(value.numel() for value in encoder.parameters())
        parts = encoder.parameter_counts() if isinstance(encoder, TowerPair) else {'image_encoder': total}
        backbone = sum(parts.values())
        visual = parts.get('image_encoder', 0) + parts.get('image_head', 0)
        return cls(trainable, backbone + classifier, visual, backbone)


def mode_folder(mode: str, n_shot: int = 0, *, two_lr: bool = False, wiki: bool = False,
                wordnet_definition: bool = False, wordnet_hierarchy: bool = False, gpt3: int = 0,
                aggregate: str = 'WIKI_AND_GPT3') -> str:
    """The name of the folder of a mode, as in the toolkit.

    Args:
        mode: one of `MODES`.
        n_shot: images per class; -1 for all; 0 for zero-shot.
        two_lr: of fine-tuning: the towers learn at a rate of their own.
        wiki, wordnet_definition, wordnet_hierarchy, gpt3, aggregate: of zero-shot, see `knowledge_texts`.

    Raises:
        ConfigError: for another mode, or shots that do not go with it.
    """
    check_choice('mode', mode, MODES)
    check_shots(mode, n_shot)
    if mode == 'zero_shot':
        for name, value in (('wiki', wiki), ('wordnet_definition', wordnet_definition),
                            ('wordnet_hierarchy', wordnet_hierarchy)):
            check_flag(name, value)
        check_whole('gpt3', gpt3, 0, MOST_GPT3)
        check_choice('aggregate', aggregate, AGGREGATES)
        return (f'zeroshot_eval_wiki_{wiki}_wnh_{wordnet_hierarchy}_wnd_{wordnet_definition}_gpt3_{gpt3 > 0}'
                f'agg_{aggregate}_gpt3count_{gpt3 or 1}')
    shots = 'full' if n_shot == -1 else n_shot
    return f'{_FOLDERS[mode]}_{shots}{"_two_lr" if two_lr and mode == "fine_tune" else ""}'


def check_shots(mode: str, n_shot: int) -> int:
    """Shots that go with a mode.

    Raises:
        ConfigError: for others.
    """
    check_whole('n_shot', n_shot, -1)
    if (mode == 'zero_shot') != (n_shot == 0):
        raise ConfigError(f"n_shot is {n_shot} with mode='{mode}'; zero_shot has 0, the other modes the images per "
                          'class or -1 for all.')
    return n_shot


def write_predictions(work_dir: str | Path, mode: str, set_name: str, probabilities: Tensor | np.ndarray, *,
                      model_name: str, counts: ParameterCounts, n_shot: int = 0, seed: int = 0,
                      folder: str | None = None, score: float | None = None, metric: str | None = None,
                      setting: str = '') -> Path:
    """Write the predictions of one set and seed, whole or not at all; returns the file.

    Args:
        probabilities: (N, C) of the test images in the order of the index, each row a softmax, as also for the set of
            several labels.
        folder: of the mode, where `mode_folder(mode, n_shot)` is not it (two rates, knowledge).
        score: what they scored, a fraction, for `summarise`; metric: what it is.
        setting: what else they depend on. What another model or setting has written is never replaced.

    Raises:
        ConfigError: for a wrong mode, seed, name or shots.
        DataError: if these are no probabilities, one of ELEVATER's sets has another number of classes, or another model
            or setting has written this file.
    """
    check_shots(check_choice('mode', mode, MODES), n_shot)
    check_text('model_name', model_name)
    check_whole('seed', seed, 0)
    known = stored_set(check_text('set', set_name))
    name = known.name if known is not None else set_name
    if isinstance(probabilities, Tensor):
        probabilities = probabilities.detach().cpu()
    values = np.asarray(probabilities, np.float64)
    fault = fault_of(values, False) if values.ndim == 2 else f'have the shape {values.shape}, expected (N, C)'
    if fault is not None:
        raise DataError(f"The predictions for '{name}' {fault}.")
    if known is not None and values.shape[1] != known.num_classes:
        raise DataError(f"The predictions for '{name}' are of {values.shape[1]} classes; it has {known.num_classes}.")
    folder = folder or mode_folder(mode, n_shot)
    file = f'{name}.json' if mode == 'zero_shot' else f'seed{seed}_{name}.json'
    path = inside(work_dir, f'predictions/{folder}/{file}')
    scored = check_free(work_dir, folder, name, seed, model_name=model_name, setting=setting)
    write_entry(path, dict(model_name=model_name, dataset_name=name, **asdict(counts), n_shot=n_shot, rnd_seeds=[seed],
                           predictions=values[None]))
    if score is not None:
        check_number('score', score, 0, 1)
        write_json(scored, dict(dataset=name, metric=metric, value=float(score), seed=seed, n_shot=n_shot,
                                model_name=model_name, setting=setting))
    return path


def check_free(work_dir: str | Path, folder: str, set_name: str, seed: int, *, model_name: str, setting: str = ''
               ) -> Path:
    """The file of a score, as `write_predictions` writes it.

    Raises:
        DataError: if another model or setting has written it.
    """
    scored = inside(work_dir, f'scores/{folder}/seed{seed}_{set_name}.json')
    if not scored.is_file():
        return scored
    before = read_json(scored)
    before = before if isinstance(before, dict) else {}
    found = before.get('model_name'), before.get('setting', '')
    if found != (model_name, setting):
        other = f'of {found[0]!r}' if found[0] != model_name else 'made by other options'
        raise DataError(f'{scored} and its predictions are {other}; those of {model_name!r} would replace them. Give '
                        'another folder (predictions), or remove that one.')
    return scored


def fault_of(probabilities: np.ndarray, multi_label: bool) -> str | None:
    """What is wrong with predictions (..., C), as the end of a sentence; None if nothing is."""
    if not probabilities.size:
        return 'are empty'
    if not np.isfinite(probabilities).all():
        return f'hold {int((~np.isfinite(probabilities)).sum())} values that are NaN or infinite'
    if probabilities.min() < 0 or probabilities.max() > 1:
        return f'lie in {probabilities.min():.6g} ... {probabilities.max():.6g}, expected probabilities in 0 ... 1'
    if not multi_label:
        sums = probabilities.sum(-1).reshape(-1)
        off = np.abs(sums - 1) > SUM_TOLERANCE
        if off.any():
            row = int(off.argmax())
            return (f'do not sum to one in {int(off.sum())} of {len(sums)} rows (first: row {row}, {sums[row]:.6g}; '
                    f'{SUM_TOLERANCE:g} is allowed)')
    return None


# Files


def write_entry(path: Path, entry: Mapping[str, object]) -> None:
    """One entry as JSON, floats of six digits, row by row: the text of a large set is never held whole."""
    with atomic_writer(path, 'w') as file:
        for part in json_parts(entry):
            file.write(part)


def json_parts(entry: Mapping[str, object]) -> Iterator[str]:
    """The JSON of an entry whose predictions, its last key, are an array (S, N, C)."""
    plain = {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in entry.items()
             if key != 'predictions'}
    yield json.dumps(plain, allow_nan=False)[:-1] + ', "predictions": ['
    for seed, rows in enumerate(entry['predictions']):
        yield ', [' if seed else '['
        for row, values in enumerate(rows):
            yield (', ' if row else '') + json.dumps(np.round(values, DIGITS).tolist(), allow_nan=False)
        yield ']'
    yield ']}'


def read_entry(content: object, where: str) -> dict[str, object]:
    """An entry with its predictions as an array (S, N, C), after a look at its keys.

    Raises:
        DataError: naming what is missing, unknown or no array.
    """
    if not isinstance(content, dict) or {*content} != {*KEYS}:
        keys = {*content} if isinstance(content, dict) else set()
        missing, unknown = {*KEYS} - keys, keys - {*KEYS}
        raise DataError(f'{where} is no prediction of ELEVATER\'s: '
                        + (f'it lacks {", ".join(sorted(missing))}' if missing else
                           f'it has {", ".join(sorted(unknown))} besides') + '.')
    if not isinstance(content['dataset_name'], str):
        raise DataError(f"{where}: dataset_name is {content['dataset_name']!r}, expected a text.")
    try:
        values = np.asarray(content['predictions'], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f'{where}: predictions are no array of seeds x images x classes: rows of different lengths, or '
                        'no numbers.') from error
    if values.ndim != 3:
        raise DataError(f'{where}: predictions have the shape {values.shape}, expected (seeds, images, classes).')
    if not isinstance(content['rnd_seeds'], list) or len(content['rnd_seeds']) != len(values):
        raise DataError(f'{where}: rnd_seeds is {content["rnd_seeds"]!r} for the predictions of {len(values)} seeds.')
    return content | dict(predictions=values)
