"""review.py: batches out of a config's stages, and answers back into the stage that export goes on from."""

import csv
import importlib.util
import json
from pathlib import Path

import curated_stages
import pytest

from clear.engine.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def review():
    spec = importlib.util.spec_from_file_location('review', ROOT / 'tools/curation/review.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path):
    """A folder with stages and a config of Verified and Export."""
    made = curated_stages.world(tmp_path / 'in', per_class=3)
    inputs = {kind: str(path) for kind, path in made.inputs.items()}
    (tmp_path / 'own.py').write_text(
        f"stages = [dict(type='Verified', answers='none.csv', min_reviewers=2),\n"
        f"          dict(type='Export', out_dir={str(tmp_path / 'out')!r}, testset_ratio=0)]\ninputs = {inputs}\n")
    return tmp_path, made


def fill(path, verdict):
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        row['verdict'] = verdict(place)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_review_loop_ends_in_the_data_set(place, review, capsys):
    folder, made = place
    config, work = str(folder / 'own.py'), ['--work-dir', str(folder / 'run')]
    assert review.main(['write', config, str(folder / 'review'), '--reviewers', 'ann', 'bob', *work, '--dry-run']) == 0
    assert not (folder / 'review').exists()
    assert review.main(['write', config, str(folder / 'review'), '--reviewers', 'ann', 'bob', *work]) == 0
    tables = sorted((folder / 'review').glob('*.csv'))
    rows = fill(tables[0], lambda place: 'yes')
    fill(tables[1], lambda place: 'accept' if place % 3 else 'reject')
    capsys.readouterr()
    assert review.main(['read', config, *map(str, tables), *work, '--dry-run']) == 0
    assert 'verified  36 answers: ann 18, bob 18' in capsys.readouterr().out
    assert not (folder / 'run/stages/verified').exists()
    assert review.main(['read', config, *map(str, tables), *work]) == 0
    told = ''.join(capsys.readouterr())
    assert '2 reviewers, 36 answers, 18 images by two or more, Cohen kappa 0.000; 0 taken back, 6 ties' in told
    assert 'precision 0.667 (0.208 .. 0.939) of 3, 2 kept, 148 short' in told
    # The same config goes on to the export, with what was read.
    text = (folder / 'own.py').read_text().replace("'none.csv'", repr(list(map(str, tables))))
    (folder / 'own.py').write_text(text)
    from clear.core.config import load_config

    StageRunner(load_config(config)[0].to_dict(), folder / 'run').run()
    kept = {path.stem for path in (folder / 'out').glob('labeled_images/*/*/*.jpg')}
    assert kept == {row['id'] for place, row in enumerate(rows) if place % 3} and len(kept) == 12
    assert json.loads((folder / 'out/labeled_metadata.json').read_text()).keys() == made.chosen.keys()


@pytest.mark.parametrize('arguments, message', [
    (['read', 'own.py', 'nowhere.csv'], 'nowhere.csv does not exist'),
    (['read', 'own.py', 'empty.csv'], 'empty.csv has no column'),
    (['write', 'own.py', 'review', '--batch-size', '0'], 'batch_size is 0'),
    (['write', 'own.py', 'review', '--per-class', '0'], 'per_class is 0'),
    (['write', 'own.py', 'in'], 'has other content'),
    (['write', 'buckets.py', 'review'], r'no stage of the config makes selection.*inputs.selection=FOLDER')])
def test_one_message_each(place, review, capsys, monkeypatch, arguments, message):
    import re

    monkeypatch.chdir(place[0])
    Path('empty.csv').touch()
    Path('buckets.py').write_text("stages = [dict(type='Metadata', files='x')]\n")
    assert review.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count('error: ') == 1 and not Path('review').exists()
