"""Test sets in the layouts of their publishers: what is read of them, and what is refused."""

import json
import tarfile

import numpy as np
import pytest
from pair_shards import picture
from pair_shards import written as write_tar
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_images
from clear.datasets.readers.benchmarks.imagenet import wordnet_ids
from clear.features import extract
from clear.features.build import make_encoder


def clip_benchmark(root, kind='classification', counts=(3, 2), names=('cat', 'dog', 'owl')):
    """A folder as CLIP_benchmark's webdataset_builder writes it; the red of an image is its number."""
    (root / 'test').mkdir(parents=True)
    row = 0
    for shard, count in enumerate(counts):
        files = []
        for _ in range(count):
            text = (f'a {row}\nthe {row}', 'txt') if kind == 'retrieval' else (str(row % 3), 'cls')
            files += [(f's{row:07}.webp', picture(row, 'WEBP')), (f's{row:07}.{text[1]}', text[0].encode())]
            row += 1
        write_tar(root / f'test/{shard}.tar', files)
    (root / 'test/nshards.txt').write_text(f'{len(counts)}\n')
    if kind == 'classification':
        (root / 'classnames.txt').write_text('\n'.join(names) + '\n')
    else:
        (root / 'dataset_type.txt').write_text(f'{kind}\n')
    return root


def read(kind, **options):
    return read_images(dict(type=kind, **{key: str(value) if hasattr(value, 'parts') else value
                                          for key, value in options.items()}))


def test_a_set_of_clip_benchmark_is_read_in_place(tmp_path):
    pytest.importorskip('webdataset')
    builder = pytest.importorskip('clip_benchmark.datasets.builder')
    root = clip_benchmark(tmp_path / 'wds_pets')
    images = read('CLIPBenchmark', root=root)
    assert images.texts('id') == [f'test/{shard}/s{row:07}' for row, shard in enumerate([0, 0, 0, 1, 1])]
    assert images.class_names == ['cat', 'dog', 'owl'] and images.label_array().tolist() == [0, 1, 2, 0, 1]
    assert [images.content(row) for row in range(5)] == [picture(row, 'WEBP') for row in range(5)]
    with pytest.warns(UserWarning, match='shardshuffle'):
        peer = builder.build_wds_dataset('pets', lambda image: image, 'test', str(root))
    for row, (image, label) in enumerate(peer):
        assert label == images.label_array()[row]
        assert np.array_equal(np.asarray(image.convert('RGB')), np.asarray(images.open_image(row)))
    assert row == 4 and peer.classes == images.class_names


def test_a_set_for_retrieval_has_a_caption_on_every_line(tmp_path):
    pytest.importorskip('webdataset')
    images = read('CLIPBenchmark', root=clip_benchmark(tmp_path / 'wds_flickr', 'retrieval'))
    assert images.captions(3) == ['a 3', 'the 3'] and images.caption_counts().tolist() == [2] * 5
    assert not images.class_names and (images.label_array() == -1).all()


def test_a_name_that_is_there_twice_gets_its_number(tmp_path):
    pytest.importorskip('webdataset')
    images = read('CLIPBenchmark', root=clip_benchmark(tmp_path / 'x', names=('crane', 'dog', 'crane')))
    assert images.class_names == ['crane', 'dog', 'crane #2']


def test_what_is_no_set_of_clip_benchmark_is_refused(tmp_path):
    pytest.importorskip('webdataset')
    root = clip_benchmark(tmp_path / 'x')

    def refused(message):
        with pytest.raises(DataError, match=message):
            read('CLIPBenchmark', root=root)

    (root / 'test/nshards.txt').write_text('3')
    refused('2.tar does not exist; 1 of 3')
    (root / 'test/nshards.txt').write_text('many')
    refused("holds 'many'")
    (root / 'test/nshards.txt').write_text('2')
    (root / 'dataset_type.txt').write_text('multilabel')
    refused('several labels per image')
    (root / 'dataset_type.txt').unlink()
    (root / 'classnames.txt').write_text('cat\ndog\n')
    refused('label')
    (root / 'classnames.txt').write_text('cat\ndog\nowl\n')
    whole = (root / 'test/1.tar').read_bytes()
    (root / 'test/1.tar').write_bytes(whole[:-9000])
    refused('1.tar is cut short or damaged')
    (root / 'test/1.tar').write_bytes(b'no tar at all' * 100)
    refused('1.tar is no tar file')
    write_tar(root / 'test/1.tar', [('s1.jpg', picture(1, 'JPEG'))])
    refused("'s1' has an image but no label")
    write_tar(root / 'test/1.tar', [('../../../s1.jpg', picture(1, 'JPEG')), ('../../../s1.cls', b'0')])
    refused('leaves|outside')
    write_tar(root / 'test/1.tar', [('s0.5.jpg', picture(1, 'JPEG')), ('s0.5.cls', b'0')])
    refused("'s0' has neither")
    with tarfile.open(root / 'test/1.tar', 'w:gz') as tar:
        tar.add(root / 'classnames.txt', 's1.jpg')
    refused('1.tar is no tar file, or a compressed one')


@pytest.fixture(scope='module')
def ids():
    return wordnet_ids()


def class_folders(root, names):
    stored = picture(0)
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / f'{name}.png').write_bytes(stored)
    return root


def test_the_folders_of_imagenet_v2_are_numbers_and_no_text(tmp_path, ids):
    images = read('ImageNet', root=class_folders(tmp_path / 'v2', map(str, range(1000))), variant='v2')
    assert images.class_names == ids and len(images) == 1000
    assert images.text('path', 2) == '10/10.png'  # sorted as text
    assert images.label_array()[2] == 10 == ids.index(images.class_names[images.label_array()[2]])
    with pytest.raises(DataError, match="is of 'n01440764', and a class is a number"):
        read('ImageNet', root=class_folders(tmp_path / 'wrong', ids[:1]), variant='v2')


def test_variants_of_200_classes_keep_their_ids_and_their_order(tmp_path, ids):
    some = ids[3::5]
    images = read('ImageNet', root=class_folders(tmp_path / 'imagenet-a', some), variant='a')
    assert images.class_names == some and images.label_array().tolist() == [*range(200)] and images.name == 'imagenet_a'
    with pytest.raises(DataError, match="200 classes have images, variant='sketch' has 1000, for example n01440764"):
        read('ImageNet', root=tmp_path / 'imagenet-a', variant='sketch')
    (tmp_path / 'imagenet-a' / 'n99999999').mkdir()
    Image.new('RGB', (4, 4)).save(tmp_path / 'imagenet-a/n99999999/x.png')
    with pytest.raises(DataError, match="'n99999999', and a class is an id of WordNet"):
        read('ImageNet', root=tmp_path / 'imagenet-a', variant='a')


def test_imagenet_o_is_no_classification(tmp_path):
    with pytest.raises(ConfigError, match='no set to classify'):
        read('ImageNet', root=tmp_path, variant='o')
    with pytest.raises(ConfigError, match="'v3'"):
        read('ImageNet', root=tmp_path, variant='v3')


def test_validation_images_without_folders_have_a_file_of_labels(tmp_path, ids):
    stored = picture(0)
    (tmp_path / 'val').mkdir()
    for row in range(1000):
        (tmp_path / f'val/ILSVRC2012_val_{row + 1:08}.png').write_bytes(stored)
    labels = tmp_path / 'labels.txt'
    numbers = [(7 * row) % 1000 for row in range(1000)]
    for written in (map(str, numbers), (ids[number] for number in numbers)):
        labels.write_text('\n'.join(written) + '\n')
        images = read('ImageNet', root=tmp_path / 'val', labels=labels)
        assert images.label_array().tolist() == numbers and images.class_names == ids
    labels.write_text('0\n' * 999)
    with pytest.raises(DataError, match='has 999 lines for 1000 images'):
        read('ImageNet', root=tmp_path / 'val', labels=labels)
    labels.write_text('\n'.join(str(number + 1) for number in numbers))
    with pytest.raises(DataError, match='development kit counts classes from 1'):
        read('ImageNet', root=tmp_path / 'val', labels=labels)
    with pytest.raises(DataError, match='is of no folder'):
        read('ImageNet', root=tmp_path / 'val')
    with pytest.raises(ConfigError, match='labels'):
        read('ImageNet', root=tmp_path / 'val', labels=labels, variant='v2')


def test_folders_of_test_images_leave_empty_classes_out(tmp_path, caplog):
    """`<name>/test/<class>/`, of Birdsnap with nine empty ones, and UCF101's `testlist01`."""
    for folder in ('birdsnap/test', 'ucf101/testlist01'):
        class_folders(tmp_path / folder, ['Acadian_Flycatcher', 'Zone_tailed_Hawk'])
        (tmp_path / folder / 'Black_Rosy_Finch').mkdir()
        images = read('ImageFolder', root=tmp_path / folder)
        assert images.class_names == ['Acadian_Flycatcher', 'Zone_tailed_Hawk'] and len(images) == 2
    assert "'Black_Rosy_Finch'" in caplog.text


def winoground(root, **changes):
    (root / 'images').mkdir(parents=True)
    lines = []
    for number in range(2):
        for side in range(2):
            (root / f'images/ex_{number}_img_{side}.png').write_bytes(picture(10 * number + side))
        lines.append(dict(id=number, image_0=f'ex_{number}_img_0', image_1=f'ex_{number}_img_1',
                          caption_0='a dog on a cat', caption_1='a cat on a dog') | changes)
    (root / 'examples.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return root


def test_winoground_has_two_images_with_each_others_caption(tmp_path):
    images = read('Winoground', root=winoground(tmp_path / 'w'))
    assert images.texts('id') == ['0/0', '0/1', '1/0', '1/1'] and images['example'].to_pylist() == [0, 0, 1, 1]
    assert images.captions(2) == ['a dog on a cat', 'a cat on a dog'] == images.captions(3)[::-1]
    assert images.text('path', 3) == 'images/ex_1_img_1.png'
    for number, (change, message) in enumerate([
            (dict(image_1='gone'), "'images/gone.png', is not in"), (dict(caption_0=' '), "example 1: 'caption_0'"),
            (dict(image_0='../../x'), 'leaves|outside'), (dict(caption_1=3), "'caption_1' should hold text, found 3")]):
        with pytest.raises(DataError, match=message):
            read('Winoground', root=winoground(tmp_path / f'bad{number}', **change))


def test_sugar_crepe_has_a_right_and_a_wrong_caption(tmp_path):
    for row in range(2):
        (tmp_path / f'{row}.jpg').write_bytes(picture(row, 'JPEG'))
    (tmp_path / 'sets').mkdir()
    items = {'0': dict(filename='1.jpg', caption='a dog', negative_caption='a cat'),
             '7': dict(filename='1.jpg', caption='red', negative_caption='blue')}
    for name in ('swap_obj', 'add_att'):
        (tmp_path / f'sets/{name}.json').write_text(json.dumps(items))
    images = read('SugarCrepe', root=tmp_path, files=str(tmp_path / 'sets'))
    assert images.texts('id') == ['add_att/0', 'add_att/7', 'swap_obj/0', 'swap_obj/7']
    assert images.texts('subset') == ['add_att'] * 2 + ['swap_obj'] * 2 and images.captions(1) == ['red', 'blue']
    del items['7']['negative_caption']
    (tmp_path / 'sets/add_att.json').write_text(json.dumps(items))
    with pytest.raises(DataError, match="item '7': 'negative_caption' should hold text, found None"):
        read('SugarCrepe', root=tmp_path, files=str(tmp_path / 'sets'))
    with pytest.raises(DataError, match='no .json file'):
        read('SugarCrepe', root=tmp_path, files=str(tmp_path))


def test_tables_for_retrieval_are_merged_sorted_and_decoded(tmp_path):
    for name in ('b.png', 'a.png'):
        (tmp_path / name).write_bytes(picture(1))
    rows = ['b.png,one', 'a.png,two', 'b.png,机场', 'a.png,"four, five"']
    for name, encoding in (('rsicd_test.csv', 'gb18030'), ('other.csv', 'utf-8')):
        (tmp_path / name).write_bytes('\n'.join(['filepath,title', *rows, '']).encode(encoding))
        images = read('RetrievalTable', path=tmp_path / name)
        assert images.texts('path') == ['a.png', 'b.png']
        assert [images.captions(row) for row in range(2)] == [['two', 'four, five'], ['one', '机场']]
    (tmp_path / 'tabs.csv').write_text('image\ttext\nb.png\tone\n')
    images = read('RetrievalTable', path=tmp_path / 'tabs.csv', separator='\t', image_key='image', caption_key='text')
    assert images.captions(0) == ['one']  # a single caption is no list of letters
    (tmp_path / 'empty.csv').write_text('filepath,title\na.png,one\nb.png,\n')
    with pytest.raises(DataError, match='1 rows have no title'):
        read('RetrievalTable', path=tmp_path / 'empty.csv')


def test_coco_has_all_captions_in_both_years(tmp_path):
    for year, folder in ((2014, 'coco2014'), (2017, '.')):
        base = tmp_path / str(year) / folder
        (base / f'val{year}').mkdir(parents=True)
        (base / 'annotations').mkdir()
        name = 'COCO_val2014_000000000007.jpg' if year == 2014 else '000000000007.jpg'
        (base / f'val{year}' / name).write_bytes(picture(7, 'JPEG'))
        (base / f'annotations/captions_val{year}.json').write_text(json.dumps(dict(
            images=[dict(id=7, file_name=name)],
            annotations=[dict(id=number, image_id=7, caption=f'caption {number}') for number in (6, 1, 2, 3, 4, 5)])))
        images = read('CocoCaptions', data_root=tmp_path / str(year), split='val', year=year)
        assert images.captions(0) == [f'caption {number}' for number in range(1, 7)]
        assert images.texts('path') == [f'val{year}/{name}'] and images.texts('image_id') == ['7']
        assert images['caption_ids'][0].as_py() == ['1', '2', '3', '4', '5', '6']


def test_some_images_of_coco_are_named_by_their_ids(tmp_path):
    (tmp_path / 'val2014').mkdir()
    (tmp_path / 'annotations').mkdir()
    for number in (3, 1, 2):
        (tmp_path / f'val2014/{number}.jpg').write_bytes(picture(number, 'JPEG'))
    (tmp_path / 'annotations/captions_val2014.json').write_text(json.dumps(dict(
        images=[dict(id=number, file_name=f'{number}.jpg') for number in (3, 1, 2)],
        annotations=[dict(id=number, image_id=number, caption='a') for number in (1, 2, 3)])))
    (tmp_path / 'test.txt').write_text('1\n3\n')
    cfg = dict(data_root=tmp_path, split='val', year=2014, only=tmp_path / 'test.txt')
    assert read('CocoCaptions', **cfg).texts('image_id') == ['3', '1']
    (tmp_path / 'test.txt').write_text('1\n4\nx\n')
    with pytest.raises(DataError, match="2 of 3 are no images with captions, the first is '4'"):
        read('CocoCaptions', **cfg)
    (tmp_path / 'test.txt').write_text('')
    with pytest.raises(DataError, match='0 of 0'):
        read('CocoCaptions', **cfg)


def test_banks_are_made_of_shards_and_found_again(tmp_path):
    pytest.importorskip('webdataset')
    root = clip_benchmark(tmp_path / 'wds_pets')
    encoder = make_encoder(dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32)))
    before = read('CLIPBenchmark', root=root)
    bank = extract(encoder, before, tmp_path / 'bank')
    assert bank.tensors()[1].tolist() == [0, 1, 2, 0, 1] and list(bank.class_names) == ['cat', 'dog', 'owl']
    assert extract(encoder, read('CLIPBenchmark', root=root), tmp_path / 'bank').fingerprint == bank.fingerprint
    write_tar(root / 'test/1.tar', [('s9.png', picture(9)), ('s9.cls', b'2')])
    assert read('CLIPBenchmark', root=root).fingerprint() != before.fingerprint()
