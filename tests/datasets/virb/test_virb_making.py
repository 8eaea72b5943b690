"""Folders made from miniature official archives: what the readers find there, links, splits, kills, wrong sources."""

import errno
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from virb_trees import (
    files_below,
    write_caltech,
    write_cifar100,
    write_class_folders,
    write_clevr,
    write_image,
    write_imagenet_v2,
    write_json,
    write_kinetics,
    write_lines,
    write_nuscenes,
    write_thor_egomotion,
    write_thor_num_steps,
)

from clear.core.errors import ConfigError, DataError, WriteError
from clear.datasets import read_images
from clear.datasets.make.virb.layout import Layout, make_folder
from clear.datasets.make.virb.makers import MAKERS

ROOT = Path(__file__).parents[3]


def archive(folder, path, top=True):
    """A zip, tar or tar.gz of a folder, by the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = folder.parent if top else folder
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as file:
            for each in sorted(folder.rglob('*')):
                file.write(each, each.relative_to(base))
        return path
    with tarfile.open(path, 'w:gz' if path.suffix in ('.gz', '.tgz') else 'w') as file:
        for each in sorted(folder.rglob('*')):
            file.add(each, each.relative_to(base), recursive=False)
    return path


def make(name, source, out, *lists, **options):
    return make_folder(MAKERS[name], Path(source), [Path(each) for each in lists], out, **options)


def read(kind, root, **options):
    return read_images(dict(type=kind, root=str(root), **options))


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def src(tmp_path):
    return tmp_path / 'src'


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'data' / 'set'


@pytest.mark.parametrize('suffix', ['zip', 'tar', 'tar.gz', None])
def test_dtd_by_its_first_lists(tmp_path, src, out, suffix):
    for texture in ('banded', 'woven'):
        for number in range(6):
            write_image(src / 'dtd' / 'images' / texture / f'{texture}_{number}.jpg', number)
    for number, name in enumerate(('train1', 'val1', 'test1', 'train2', 'val2', 'test2')):
        write_lines(src / 'dtd/labels' / f'{name}.txt',
                    [f'{texture}/{texture}_{number % 3}.jpg' for texture in ('banded', 'woven')])
    source = archive(src / 'dtd', tmp_path / f'dtd.{suffix}') if suffix else src / 'dtd'
    counts, notes = make('dtd', source, out)
    assert counts == {'ImageFolder train': 4, 'ImageFolder test': 2} and not notes
    assert files_below(out) == sorted([f'train/{texture}/{texture}_{number}.jpg' for texture in ('banded', 'woven')
                                       for number in (0, 1)] + ['test/banded/banded_2.jpg', 'test/woven/woven_2.jpg'])
    links = {path.is_symlink() for path in out.rglob('*.jpg')}
    assert links == {suffix is None} and names_in(out.parent) == ['set']
    assert read('ImageFolder', out / 'train').class_names == ['banded', 'woven']


def test_pets_breeds_are_names_and_masks_come_along(tmp_path, src, out):
    names = ['Abyssinian_1', 'great_pyrenees_12', 'great_pyrenees_2', 'Abyssinian_7']
    for name in names:
        write_image(src / 'images' / f'{name}.jpg')
        write_image(src / 'annotations' / 'trimaps' / f'{name}.png')
    (src / 'images' / 'Abyssinian_9.mat').write_bytes(b'junk')
    (src / 'annotations' / 'trimaps' / '._Abyssinian_1.png').write_bytes(b'junk of a Mac')
    write_lines(src / 'annotations/trainval.txt', ['#Image CLASS-ID SPECIES BREED ID', f'{names[0]} 1 1 1',
                                                   f'{names[1]} 2 2 1'])
    write_lines(src / 'annotations/test.txt', [f'{names[2]} 2 2 1', f'{names[3]} 1 1 1'])
    images = archive(src / 'images', tmp_path / 'images.tar.gz')
    annotations = archive(src / 'annotations', tmp_path / 'annotations.tar.gz')
    counts, _ = make('pets', images, out, annotations)
    assert counts == {'ImageFolder train': 2, 'ImageFolder test': 2}
    assert files_below(out) == sorted([
        *(f'annotations/trimaps/{name}.png' for name in names), 'train/Abyssinian/Abyssinian_1.jpg',
        'train/great_pyrenees/great_pyrenees_12.jpg', 'test/great_pyrenees/great_pyrenees_2.jpg',
        'test/Abyssinian/Abyssinian_7.jpg'])
    with pytest.raises(DataError, match='images.tar.gz holds no trainval.txt and test.txt'):
        make('pets', images, out.with_name('other'))
    (src / 'images' / f'{names[2]}.jpg').unlink()
    with pytest.raises(DataError, match="test.txt: 1 of 2 files are not in .*first is 'great_pyrenees_2.jpg'"):
        make('pets', src, out.with_name('other'))
    assert names_in(out.parent) == ['set']


def test_caltech_with_lists_and_without(tmp_path, src, out):
    write_caltech(src / '101_ObjectCategories', {'accordion': 31, 'BACKGROUND_Google': 32})
    nested = archive(src / '101_ObjectCategories', tmp_path / 'caltech-101' / '101_ObjectCategories.tar.gz')
    outer = archive(nested.parent, tmp_path / 'caltech-101.zip')
    counts, notes = make('caltech101', outer, out)
    assert counts == {'Caltech101 train': 60, 'Caltech101 test': 3}
    assert '30 images of each of 2 categories, drawn with seed 0' in notes[0]
    make('caltech101', src, out.with_name('again'))
    for split in ('train', 'test'):
        assert read('Caltech101', out, split=split).texts('path') == read('Caltech101', out.with_name('again'),
                                                                          split=split).texts('path')
    write_json(tmp_path / 'caltech101_train.json', ['accordion/image_0001.jpg'])
    write_json(tmp_path / 'caltech101_test.json', ['accordion/image_0002.jpg'])
    counts, notes = make('caltech101', nested, out.with_name('listed'), tmp_path / 'caltech101_train.json',
                         tmp_path / 'caltech101_test.json')
    assert counts == {'Caltech101 train': 1, 'Caltech101 test': 1} and not notes
    with pytest.raises(DataError, match='Give both of'):
        make('caltech101', nested, out.with_name('half'), tmp_path / 'caltech101_train.json')


def test_a_seeded_fifth_of_eurosat(tmp_path, src, out):
    for name in ('AnnualCrop', 'SeaLake'):
        for number in range(10):
            write_image(src / '2750' / name / f'{name}_{number}.jpg')
    source = archive(src / '2750', tmp_path / 'EuroSAT.zip')
    counts, notes = make('eurosat', source, out)
    assert counts == {'ImageFolder train': 16, 'ImageFolder test': 4}
    assert '20% of each class, drawn with seed 0' in notes[0]
    for seed, same in ((0, True), (1, False)):
        make('eurosat', src, out.with_name(f'{seed}'), seed=seed)
        assert (files_below(out) == files_below(out.with_name(f'{seed}'))) == same
    write_lines(tmp_path / 'test.txt', ['SeaLake/SeaLake_1.jpg'])
    with pytest.raises(DataError, match='test.txt is not what this data set is made from'):
        make('eurosat', source, out.with_name('listed'), tmp_path / 'test.txt')


def test_sun397_by_official_lists_and_drawn(tmp_path, src, out):
    names = ['/a/abbey', '/a/apartment_building/outdoor']
    for name in names:
        for number in range(5):
            write_image(src / 'SUN397' / name.lstrip('/') / f'sun_{number}.jpg')
    write_lines(src / 'SUN397' / 'ClassName.txt', names)
    for part, number in dict(Training=0, Testing=1).items():
        write_lines(tmp_path / f'{part}_01.txt', [f'{name}/sun_{number}.jpg' for name in names])
    counts, _ = make('sun397', archive(src / 'SUN397', tmp_path / 'SUN397.tar.gz'), out, tmp_path / 'Training_01.txt',
                     tmp_path / 'Testing_01.txt')
    assert counts == {'ImageFolder train': 2, 'ImageFolder test': 2}
    assert files_below(out) == [f'{part}/{name}/sun_{number}.jpg' for part, number in (('test', 1), ('train', 0))
                                for name in ('abbey', 'apartment_building_outdoor')]
    counts, notes = make('sun397', src, out.with_name('drawn'))
    assert counts == {'ImageFolder train': 8, 'ImageFolder test': 2} and notes
    with pytest.raises(DataError, match='Give one pair of lists'):
        make('sun397', src, out.with_name('half'), tmp_path / 'Training_01.txt')
    with pytest.raises(DataError, match='is not what this data set is made from'):
        make('sun397', src, out.with_name('many'), archive(src / 'SUN397', tmp_path / 'Partitions.zip'))


def test_imagenet_from_its_tars_and_the_development_kit(tmp_path, src, out):
    """Numbers of the kit are in another order than the sorted ids, and training images lie in tars in a tar."""
    from scipy.io import savemat

    for name in ('n02', 'n01'):
        for image in range(2):
            write_image(src / 'train' / name / f'{name}_{image}.JPEG')
        archive(src / 'train' / name, src / 'tars' / f'{name}.tar', top=False)
    for row in range(1, 4):
        write_image(src / 'val' / f'ILSVRC2012_val_{row:08}.JPEG', row)
    kit = src / 'kit' / 'data'
    write_lines(kit / 'ILSVRC2012_validation_ground_truth.txt', [1, 2, 1])
    savemat(kit / 'meta.mat', {'synsets': np.array([(1, 'n02', 0), (2, 'n01', 0), (3, 'n99', 2)], dtype=[
        ('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('num_children', 'O')])})
    sources = [archive(src / name, tmp_path / f'{file}', top=False) for name, file in (
        ('tars', 'train.tar'), ('val', 'val.tar'), ('kit', 'kit.tar.gz'))]
    counts, _ = make('imagenet', sources[0], out, *sources[1:])
    assert counts == {'ImageFolder train': 4, 'ImageFolder val': 3}
    expected = ['val/n01/ILSVRC2012_val_00000002.JPEG', 'val/n02/ILSVRC2012_val_00000001.JPEG',
                'val/n02/ILSVRC2012_val_00000003.JPEG']
    assert [path for path in files_below(out) if path.startswith('val')] == expected
    # The same from a folder of tars, which stay where they are.
    assert make('imagenet', src / 'tars', out.with_name('again'), *sources[1:])[0] == counts
    assert names_in(src / 'tars') and files_below(out.with_name('again')) == files_below(out)
    with pytest.raises(DataError, match='give ILSVRC2012_img_val.tar too'):
        make('imagenet', sources[0], out.with_name('x'))
    (src / 'kit').rename(tmp_path / 'kit')
    with pytest.raises(DataError, match='ground_truth.txt or LOC_val_solution.csv is neither'):
        make('imagenet', src, out.with_name('x'))
    write_lines(tmp_path / 'LOC_val_solution.csv', ['ImageId,PredictionString', *(
        f'ILSVRC2012_val_{row:08},n0{row % 2 + 1} 1 2 3 4' for row in (3, 1, 2))])
    make('imagenet', src, out.with_name('kaggle'), tmp_path / 'LOC_val_solution.csv')
    assert [path for path in files_below(out.with_name('kaggle')) if path.startswith('val')] == expected


def test_imagenet_v2_and_cifar100(tmp_path, src, out):
    write_imagenet_v2(src / 'v2' / 'imagenetv2-matched-frequency-format-val', [0, 1, 10])
    assert make('imagenetv2', src / 'v2', out)[0] == {'ImageNetV2': 3}
    write_cifar100(src / 'cifar-100-python', dict(train=[1, 2], test=[3]))
    source = archive(src / 'cifar-100-python', tmp_path / 'cifar-100-python.tar.gz')
    assert make('cifar100', source, out.with_name('c'))[0] == {'CIFAR100Pickles train': 2, 'CIFAR100Pickles test': 1}


def test_kinetics_leaves_short_videos_out_of_its_lists(tmp_path, src, out):
    write_kinetics(src, dict(train={'abc': ('yoga', 7), 'xyz': ('yoga', 2)}, validate={'uvw': ('yoga', 6)}))
    for frame in range(6):  # frames may lie in a folder of their video
        write_image(src / 'train' / 'k_l' / f'frame_{frame}.jpg')
    labels = {name: {'annotations': {'label': 'run'}} for name in ('k_l', 'abc', 'xyz')}
    write_json(src / 'annotations/train.json', labels)
    write_json(src / 'annotations/validate.json', {'uvw': {'annotations': {'label': 'run'}}})
    counts, notes = make('kinetics', src, out)
    assert counts == {'KineticsFrames train': 12, 'KineticsFrames validate': 6}
    assert notes == ['train: 1 of 3 videos have fewer than 6 frames and are left out.']
    assert read('KineticsFrames', out, split='train').texts('clip')[::6] == ['k_l', 'abc']
    assert (out / 'train/k_/k_l_frame_3.jpg').is_symlink()


def test_sets_with_lists_of_their_own(tmp_path, src, out):
    write_nuscenes(src / 'n', dict(train=[('samples/a.jpg', 'sweeps/b.jpg', 0)], test=[('samples/a.jpg',
                                                                                      'samples/c.jpg', 0)]))
    write_image(src / 'n' / 'samples' / 'unused.jpg')
    lists = [(src / 'n' / f'nuScenes_{split}.json').rename(tmp_path / f'nuScenes_{split}.json')
             for split in ('train', 'test')]
    assert make('nuscenes', src / 'n', out, *lists)[0] == {'NuScenesPairs train': 2, 'NuScenesPairs test': 2}
    assert not (out / 'samples' / 'unused.jpg').exists()
    write_thor_egomotion(src / 'e', dict(train=[('train/a', 'LookUp')], val=[('val/b', 'LookUp')]))
    assert make('thor_egomotion', archive(src / 'e', tmp_path / 'thor_egomotion.zip'), out.with_name('e'))[0] == {
        'ThorEgomotion train': 2, 'ThorEgomotion val': 2}
    write_thor_num_steps(src / 's', dict(train=[('train/a/b', 1)], val=[('val/a/b', 1)]))
    assert make('thor_num_steps', src / 's', out.with_name('s'))[0] == {'ThorNumSteps train': 1, 'ThorNumSteps val': 1}
    write_clevr(src / 'CLEVR_v1.0', dict(train=[('CLEVR_train_0.png', [(1, 1, 1)])],
                                         val=[('CLEVR_val_0.png', [(1, 1, 1)])]))
    counts, _ = make('clevr', archive(src / 'CLEVR_v1.0', tmp_path / 'CLEVR_v1.0.zip'), out.with_name('clevr'))
    assert counts == {f'CLEVRScenes {split} {answer}': 1 for split in ('train', 'val')
                      for answer in ('count', 'distance')}
    (src / 's' / 'val/a/b_rgb.jpg').unlink()
    with pytest.raises(DataError, match="val_labels.txt: 1 of 1 files are not in .* first is 'val/a/b_rgb.jpg'"):
        make('thor_num_steps', src / 's', out.with_name('t'))


# What is wrong with a source


def hostile(path, name, kind='zip'):
    if kind == 'zip':
        with zipfile.ZipFile(path, 'w') as file:
            file.writestr(name, b'x')
        return path
    with tarfile.open(path, 'w') as file:
        member = tarfile.TarInfo(name)
        if kind == 'link':
            member.type, member.linkname = tarfile.SYMTYPE, '/etc/passwd'
            file.addfile(member)
        else:
            member.size = 1
            file.addfile(member, io.BytesIO(b'x'))
    return path


@pytest.mark.parametrize('kind, name, says', [
    ('zip', '../x', 'leads out of the folder'), ('zip', '/etc/x', 'leads out'), ('tar', '../x', 'leads out'),
    ('link', 'dtd', 'is a link or a special file'), ('tar', 'other/x', 'holds no images and labels')])
def test_members_that_would_escape(tmp_path, out, kind, name, says):
    with pytest.raises(DataError, match=says):
        make('dtd', hostile(tmp_path / 'a.archive', name, kind), out)
    assert not (tmp_path / 'x').exists() and not out.exists() and not names_in(out.parent)


@pytest.mark.parametrize('suffix', ['zip', 'tar', 'tar.gz'])
@pytest.mark.parametrize('share', [0.3, 0.7])
def test_an_archive_cut_short(tmp_path, src, out, suffix, share):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 3})
    whole = archive(src / '2750', tmp_path / f'EuroSAT.{suffix}')
    whole.write_bytes(whole.read_bytes()[:int(share * whole.stat().st_size) // 512 * 512])
    with pytest.raises(DataError, match='EuroSAT.* (is damaged|is no folder, zip or tar)'):
        make('eurosat', whole, out)
    assert not out.exists()


@pytest.mark.parametrize('source, says', [('nowhere', 'nowhere does not exist'), ('text', 'is no folder, zip or tar')])
def test_other_sources(tmp_path, out, source, says):
    (tmp_path / 'text').write_text('no archive')
    with pytest.raises(DataError, match=says):
        make('eurosat', tmp_path / source, out)


def test_a_folder_with_content_stays(tmp_path, src, out):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 5})
    write_lines(out / 'mine.txt', ['kept'])
    with pytest.raises(DataError, match='has other content'):
        make('eurosat', src, out)
    assert files_below(out) == ['mine.txt']
    make('eurosat', src, out, overwrite=True)
    assert len(files_below(out)) == 10


@pytest.mark.parametrize('place', ['', '2750'])
def test_a_source_is_not_overwritten_by_what_is_made_of_it(out, place):
    write_class_folders(out, ['AnnualCrop', 'SeaLake'], {'2750': 5})
    with pytest.raises(DataError, match='lies in .*, which is made anew from it'):
        make('eurosat', out / place, out, overwrite=True)
    assert len(files_below(out)) == 10


def test_a_full_disk_is_one_message(src, out, monkeypatch):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 5})

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, 'symlink_to', full)
    with pytest.raises(WriteError, match='set cannot be written: No space left'):
        make('eurosat', src, out)
    assert not names_in(out.parent)


def test_two_files_of_one_name_are_told(tmp_path):
    layout = Layout()
    layout.add('a/./b.jpg', tmp_path / '1')
    layout.add('a/b.jpg', tmp_path / '1')
    with pytest.raises(DataError, match="'a/b.jpg' would be both"):
        layout.add('a/b.jpg', tmp_path / '2')


def test_what_a_reader_refuses_is_not_made(src, out):
    write_thor_egomotion(src, dict(train=[('train/a', 'LookUp')], val=[('val/b', 'Jump')]))
    with pytest.raises(DataError, match=f"{out}/val_labels.txt:1: action 'Jump'"):
        make('thor_egomotion', src, out)
    assert not out.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from clear.datasets.make.virb import layout
write = layout._write
def stop(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)
layout._write = stop
from clear.datasets.make.virb.makers import MAKERS
layout.make_folder(MAKERS['eurosat'], Path(sys.argv[1]), [], Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_kill_leaves_nothing_half_made_and_the_next_run_tidies(src, out):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 5})
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', KILLED, str(src), str(out)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL and not out.exists() and names_in(out.parent)
    make('eurosat', src, out)
    assert names_in(out.parent) == ['set'] and len(files_below(out)) == 10


@pytest.mark.slow
def test_two_runs_at_once(tmp_path, src, out):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 5})
    code = KILLED.replace('os.kill(os.getpid(), signal.SIGKILL)', 'print("here", flush=True); sys.stdin.read()')
    with subprocess.Popen([sys.executable, '-c', code, str(src), str(out)], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(ROOT)}) as first:
        assert first.stdout.readline() == 'here\n'
        with pytest.raises(ConfigError, match='Another process is making'):
            make('eurosat', src, out)
        first.stdin.close()
        assert first.wait(60) == 0
    assert len(files_below(out)) == 10


def test_images_are_those_of_the_source(src, out):
    write_class_folders(src, ['AnnualCrop', 'SeaLake'], {'2750': 5})
    make('eurosat', src, out)
    for path in out.rglob('*.jpg'):
        other = src / '2750' / path.parent.name / path.name
        assert path.resolve() == other.resolve() and Image.open(path).size == (16, 16)
