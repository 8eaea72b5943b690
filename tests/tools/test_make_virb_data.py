"""make_virb_data.py as it is called: what it prints, and its exit codes."""

import runpy
from pathlib import Path

import pytest
from virb_trees import files_below, write_class_folders

MAIN = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_virb_data.py'))['main']


def test_it_says_what_it_made(tmp_path, capsys):
    write_class_folders(tmp_path / 'src', ['AnnualCrop', 'SeaLake'], {'2750': 5})
    assert MAIN(['eurosat', str(tmp_path / 'src'), str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert 'ImageFolder train: 8 images\nImageFolder test: 2 images' in said and 'drawn with seed 0' in said
    assert said.endswith(f'made {tmp_path}/out\n') and len(files_below(tmp_path / 'out')) == 10
    assert MAIN(['eurosat', str(tmp_path / 'src'), str(tmp_path / 'out')]) == 2
    assert 'out exists and has other content' in capsys.readouterr().err


def test_the_list_names_every_set(capsys):
    assert MAIN(['--list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'imagenet', 'caltech101', 'clevr', 'kinetics'} <= {line.split()[0] for line in lines}
    assert all(len(line.split()) > 5 for line in lines)


@pytest.mark.parametrize('args, says', [
    (['eurosad', 'a', 'b'], "NAME is 'eurosad'; expected 'imagenet'"), (['eurosat', 'nowhere', 'b'], 'does not exist'),
    (['eurosat', '.', 'b', '--seed', '-1'], '--seed is -1')])
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, args, says):
    monkeypatch.chdir(tmp_path)
    assert MAIN(args) == 2
    said = capsys.readouterr().err
    assert says in said and said.startswith('error: ') and said.count('\n') == 1
    assert not files_below(tmp_path)


def test_too_few_arguments(capsys):
    with pytest.raises(SystemExit) as error:
        MAIN(['eurosat', 'a'])
    assert error.value.code == 2 and 'NAME, ARCHIVE and OUT are needed, or --list' in capsys.readouterr().err
