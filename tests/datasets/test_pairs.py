"""Readers of images with captions, their parts and joins, and the data set that draws pairs from them."""

import json
from collections import Counter

import numpy as np
import pyarrow
import pytest
import torch
from pair_shards import picture
from pair_shards import written as write_tar
from PIL import Image
from pyarrow import parquet
from torch.utils.data import DataLoader

from clear.core.errors import ConfigError, DataError
from clear.datasets import EpisodicSampler, EpochSampler, ImageTextPairs, read_images
from clear.datasets.readers.pairs.parts import subset
from clear.datasets.readers.pairs.prompted import prompted_classification
from clear.datasets.table import ImageTable

TO_TENSOR = [dict(type='Resize', size=8), dict(type='CenterCrop', size=8), dict(type='ToTensor')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """`images/0.png` ... `5.png`, each of one grey; `classes/{cat,dog_house}/`; a COCO."""
    root = tmp_path_factory.mktemp('pairs')
    for place in ('images', 'classes/cat', 'classes/dog_house', 'coco2017/val2017'):
        (root / place).mkdir(parents=True)
        for row in range(6):
            Image.new('RGB', (10, 12), (10 * row,) * 3).save(root / place / f'{row}.png')
    notes = [dict(id=9 - row, image_id=row // 2, caption=f' note {row} ') for row in range(8)]
    (root / 'coco2017/annotations').mkdir()
    (root / 'coco2017/annotations/captions_val2017.json').write_text(json.dumps(dict(
        images=[dict(id=row, file_name=f'{row}.png') for row in (3, 1, 0, 2, 5)], annotations=notes)))
    return root


def written(folder, name, rows, header='filepath\ttitle', encoding='utf-8'):
    path = folder / name
    path.write_bytes('\n'.join([header, *rows, '']).encode(encoding))
    return str(path)


def pairs(images):
    return [(images.text('path', row), images.captions(row)) for row in range(len(images))]


def test_tab_separated_text_is_read_without_quoting_and_commas_with_it(folder):
    tabs = written(folder, 'a.tsv', ['images/0.png\t"quoted" says \'he, ß 狗', 'images/1.png\t007'])
    commas = written(folder, 'a.csv', ['images/0.png,"a, b"', 'images/1.png,"c ""d"""'], 'filepath,title')
    assert pairs(read_images(dict(type='ImageTextTable', path=tabs))) == [
        ('images/0.png', ['"quoted" says \'he, ß 狗']), ('images/1.png', ['007'])]
    assert pairs(read_images(dict(type='ImageTextTable', path=commas))) == [
        ('images/0.png', ['a, b']), ('images/1.png', ['c "d"'])]
    quoted = written(folder, 'q.tsv', ['images/0.png\t"a\tb"', 'images/1.png\tc'])
    assert pairs(read_images(dict(type='ImageTextTable', path=quoted, quoting=True, max_rows=1))) == [
        ('images/0.png', ['a\tb'])]


def test_gb18030_other_names_and_parquet(folder):
    path = written(folder, 'b.txt', ['images/2.png;一只狗'], 'img;text', 'gb18030')
    options = dict(type='ImageTextTable', image_key='img', caption_key='text')
    assert pairs(read_images(dict(path=path, separator=';', encoding='gb18030', **options))) == [
        ('images/2.png', ['一只狗'])]
    with pytest.raises(DataError, match='cannot be read as a table'):
        read_images(dict(path=path, separator=';', **options))
    parquet.write_table(pyarrow.table(dict(img=['2.png', '0.png'], text=['two', 'none'])), folder / 'b.parquet')
    images = read_images(dict(path=str(folder / 'b.parquet'), root=str(folder / 'images'), **options))
    assert pairs(images) == [('2.png', ['two']), ('0.png', ['none'])]
    assert images.open_image(0).getpixel((0, 0)) == (20, 20, 20)


def test_an_image_in_several_rows_is_several_pairs_or_merged(folder):
    path = written(folder, 'c.tsv', ['images/1.png\tone', 'images/0.png\tzero', 'images/1.png\tuno'])
    images = read_images(dict(type='ImageTextTable', path=path))
    assert images.texts('id') == ['images/1.png', 'images/0.png', 'images/1.png#1']
    assert pairs(read_images(dict(type='ImageTextTable', path=path, merge=True))) == [
        ('images/1.png', ['one', 'uno']), ('images/0.png', ['zero'])]


def test_dates_cut_pairs_into_buckets(folder):
    rows = [f'images/{row}.png\tpair {row}\t{2012 - row // 2}-0{1 + row % 2}-01' for row in range(6)]
    path = written(folder, 'd.tsv', rows, 'filepath\ttitle\twhen')
    images = read_images(dict(type='ImageTextTable', path=path, time_key='when', freq='year'))
    assert images.buckets() == ['2010', '2010', '2011', '2011', '2012', '2012']
    assert [caption for _, (caption,) in pairs(images)] == [f'pair {row}' for row in (4, 5, 2, 3, 0, 1)]
    assert images.times()[0].year == 2010
    with pytest.raises(ConfigError, match='time_key'):
        read_images(dict(type='ImageTextTable', path=path, freq='year'))


@pytest.mark.parametrize('rows, options, error, message', [
    (['images/0.png\ta'], dict(caption_key='titel'), DataError, "no column 'titel', nearest: 'title'"),
    (['images/0.png\ta', 'images/1.png\t  '], {}, DataError, 'row 2 has an empty caption'),
    (['images/0.png\ta', 'images/1.png\t'], {}, DataError, '1 rows have no title, first row 2'),
    (['images/0.png\ta', 'images/9.png\tb'], {}, DataError, "image 2 of 2, 'images/9.png', is not in"),
    (['../0.png\ta'], {}, DataError, r'\.\./0.png'),
    (['images/0.png\ta'], dict(encoding='latin'), ConfigError, "expected 'utf-8' or 'gb18030'"),
    (['images/0.png\ta'], dict(separator='tab'), ConfigError, 'one character'),
    (['images/0.png\ta'], dict(max_rows=0), ConfigError, 'max_rows')])
def test_wrong_tables_are_refused(folder, rows, options, error, message):
    path = written(folder, 'wrong.tsv', rows)
    with pytest.raises(error, match=message):
        read_images(dict(type='ImageTextTable', path=path, **options))


def test_all_captions_of_coco_in_the_order_of_their_ids(folder, caplog):
    for root in (folder, folder / 'coco2017'):
        images = read_images(dict(type='CocoCaptions', data_root=str(root), split='val'))
        assert pairs(images) == [(f'val2017/{row}.png', [f'note {2 * row + 1}', f'note {2 * row}'])
                                 for row in (3, 1, 0, 2)]
    assert '1 of 5 images have no caption' in caplog.text
    with pytest.raises(ConfigError, match='year'):
        read_images(dict(type='CocoCaptions', data_root=str(folder), year=2015))


def test_the_layout_of_2014_and_more_than_five_captions(tmp_path):
    """Names of files begin with COCO_<part>, and an image may have any number of captions."""
    counts = {12: 1, 7: 7}
    for number in counts:
        path = tmp_path / 'coco2014/train2014' / f'COCO_train2014_{number:012d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (10, 12), (number,) * 3).save(path)
    (tmp_path / 'coco2014/annotations').mkdir()
    (tmp_path / 'coco2014/annotations/captions_train2014.json').write_text(json.dumps(dict(
        images=[dict(id=number, file_name=f'COCO_train2014_{number:012d}.jpg', coco_url='x') for number in counts],
        annotations=[dict(id=10 * number + row, image_id=number, caption=f'{number} {row}')
                     for number, count in counts.items() for row in range(count)])))
    cfg = dict(type='CocoCaptions', data_root=str(tmp_path), year=2014)
    assert pairs(read_images(cfg)) == [(f'train2014/COCO_train2014_{number:012d}.jpg', [
        f'{number} {row}' for row in range(count)]) for number, count in counts.items()]
    dataset = ImageTextPairs(cfg, TO_TENSOR)
    drawn = Counter(dataset[epoch, 1]['captions'] for epoch in range(350))
    assert set(drawn) == {f'7 {row}' for row in range(7)} and min(drawn.values()) > 30, 'each as likely as the others'


def test_a_subset_of_coco_is_in_the_order_of_its_file(folder, tmp_path):
    file = tmp_path / 'subset.json'
    cfg = dict(type='CocoCaptions', data_root=str(folder), split='val')
    whole = read_images(cfg)
    ids, notes = whole['image_id'].to_pylist(), whole['caption_ids'].to_pylist()
    wanted = {ids[2]: [int(each) for each in notes[2]], ids[0]: notes[0][1:]}
    file.write_text(json.dumps(dict(image_to_captions=wanted)))
    images = read_images(cfg | dict(only=str(file)))
    assert images['image_id'].to_pylist() == [ids[2], ids[0]]
    assert images['caption_ids'].to_pylist() == [notes[2], notes[0][1:]]
    assert pairs(images) == [pairs(whole)[2], (pairs(whole)[0][0], pairs(whole)[0][1][1:])]
    for content, message in (({ids[0]: [10**6]}, f'of image {ids[0]} the annotations have 0 of 1 captions'),
                             ({'77': [1]}, 'of image 77'), ([], 'no list of captions by image')):
        file.write_text(json.dumps(dict(image_to_captions=content)))
        with pytest.raises(DataError, match=message):
            read_images(cfg | dict(only=str(file)))


def test_prompted_classes_keep_their_labels_and_have_every_template(folder):
    source = dict(type='ImageFolder', root=str(folder / 'classes'))
    images = read_images(dict(type='PromptedClassification', images=source, templates=['a {}.', 'the {}: {}']))
    assert images.label_array().tolist() == [0] * 6 + [1] * 6
    assert images.captions(0) == ['a cat.', 'the cat: cat'] and images.captions(7)[0] == 'a dog house.'
    assert images.caption_counts().tolist() == [2] * 12
    named = read_images(dict(type='PromptedClassification', images=source, names=['Katze', 'Haus']))
    assert named.captions(11) == ['a photo of a Haus.']
    odd = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], label=[1, 0]),
                                  ['yes', 'red_fox/vulpes_vulpes'])
    assert prompted_classification(odd).captions(0) == [
        'a photo of a red fox vulpes vulpes.']
    assert images.select([7, 2]).captions(1) == ['a cat.', 'the cat: cat']
    with pytest.raises(DataError, match='names has 1 names'):
        read_images(dict(type='PromptedClassification', images=source, names=['Katze']))
    with pytest.raises(DataError, match='6 of 6 images have no label'):
        read_images(dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(folder / 'images'))))


def test_parts_of_a_reader(folder):
    source = dict(type='ImageFolder', root=str(folder / 'classes'))
    every = read_images(dict(type='Subset', images=source, every=5))
    assert every.texts('id') == ['cat/0.png', 'cat/5.png', 'dog_house/4.png']
    many = ImageTable.from_columns(folder, dict(path=['images/0.png'] * 1281, id=[f'{row}' for row in range(1281)]))
    assert subset(many, every=25).texts('id') == [
        f'{row}' for row in range(0, 1281, 25)]
    assert len(read_images(dict(type='Subset', images=source, fraction=0.29))) == 3
    assert len(read_images(dict(type='Subset', images=source, max_rows=5))) == 5
    with pytest.raises(ConfigError, match='one of max_rows, fraction and every'):
        read_images(dict(type='Subset', images=source, max_rows=5, every=2))
    with pytest.raises(ConfigError, match='fraction'):
        read_images(dict(type='Subset', images=source, fraction=1.5))


def test_joined_parts_open_their_own_images_and_move_their_labels(folder):
    classes = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(folder / 'classes')))
    listed = dict(type='ImageTextTable', path=written(folder / 'images', 'e.tsv', ['4.png\tfour', '2.png\ttwo']))
    images = read_images(dict(type='ConcatPairs', parts=[classes, listed, classes], weights=[1, 2, 1]))
    # Two classes, then two images without a class, each of which counts as one.
    assert images.label_array().tolist() == [0] * 6 + [1] * 6 + [-1] * 2 + [4] * 6 + [5] * 6
    assert images.class_names == ['0/cat', '0/dog_house', '1/4.png', '1/2.png', '2/cat', '2/dog_house']
    first = read_images(dict(type='ConcatPairs', parts=[listed, classes, listed]))
    assert first.label_array().tolist() == [-1] * 2 + [2] * 6 + [3] * 6 + [-1] * 2 and len(first.class_names) == 4
    assert images.captions(12) == ['four'] and images.captions(25) == ['a photo of a dog house.']
    assert images.open_image(12).getpixel((0, 0)) == (40, 40, 40)
    part = images.select(slice(13, 26, 2))
    assert [part.open_image(row).getpixel((0, 0))[0] for row in range(7)] == [20, 10, 30, 50, 10, 30, 50]
    assert images.texts('path')[12] == 'images/4.png' and (images.root / images.text('path', 12)).is_file()
    with pytest.raises(DataError, match='caption'):
        read_images(dict(type='ConcatPairs', parts=[listed, classes['images']]))
    with pytest.raises(ConfigError, match='weights'):
        read_images(dict(type='ConcatPairs', parts=[listed], weights=[1, 2]))


def test_joined_parts_keep_their_buckets_if_they_agree(folder):
    rows = [f'images/{row}.png\tin {year}\t{year}-05-01' for row, year in enumerate([2021, 2020, 2020, 2022, 2021])]
    def dated(name, kept):
        path = written(folder, name, [rows[row] for row in kept], 'filepath\ttitle\tday')
        return dict(type='ImageTextTable', path=path, time_key='day', freq='year')

    every, mixed, fewer = dated('y.tsv', range(5)), dated('z.tsv', [4, 3, 1]), dated('w.tsv', [0, 1])
    names = read_images(every).bucket_names()
    joined = dict(type='ConcatPairs', parts=[every, mixed], weights=[1, 3])
    counts = Counter(zip(read_images(joined).buckets(), (texts for _, (texts,) in pairs(read_images(joined)))))
    assert {text: bucket for bucket, text in counts} == dict(zip(['in 2020', 'in 2021', 'in 2022'], names))
    assert sorted(counts.values()) == [2, 3, 3] and read_images(joined).bucket_names() == names
    part = read_images(dict(type='StreamPart', images=joined, buckets=names[1:2], replay_buckets=names[:1],
                            replay_size=2))
    assert [texts for _, (texts,) in pairs(part)] == ['in 2021'] * 3 + ['in 2020'] * 2
    greys = [part.open_image(row).getpixel((0, 0))[0] for row in range(3)]
    assert sorted(greys) == [0, 40, 40], 'each part opens its own'
    for parts in ([every, fewer], [every, dict(every, time_key=None, freq=None)]):
        apart = dict(type='ConcatPairs', parts=parts)
        assert 'bucket' not in read_images(apart)
        with pytest.raises(ConfigError, match='ConcatPairs keeps those of its parts if all have the same'):
            read_images(dict(type='StreamPart', images=apart, buckets=names[:1]))


@pytest.fixture
def coco(folder):
    return ImageTextPairs(dict(type='CocoCaptions', data_root=str(folder), split='val'), TO_TENSOR)


def test_a_pair_is_an_image_and_one_of_its_captions_drawn_anew_each_epoch(coco):
    assert coco[0, 1].keys() == {'inputs', 'captions', 'labels', 'rows'} and coco[0, 1]['inputs'].shape == (3, 8, 8)
    torch.testing.assert_close(coco[0, 1]['inputs'], torch.full((3, 8, 8), 10 / 255))
    drawn = Counter(coco[epoch, 1]['captions'] for epoch in range(200))
    assert set(drawn) == {'note 2', 'note 3'} and 70 < drawn['note 2'] < 130
    assert coco[7, 3]['captions'] == coco[7, 3]['captions']
    coco.seed = 5
    again = [coco[epoch, 1]['captions'] for epoch in range(20)]
    coco.seed = 0
    assert again != [coco[epoch, 1]['captions'] for epoch in range(20)]
    with pytest.raises(TypeError, match='EpochSampler'):
        coco[3]


def test_workers_and_order_play_no_part(folder):
    dataset = ImageTextPairs(dict(type='CocoCaptions', data_root=str(folder), split='val'),
                             [*TO_TENSOR, dict(type='RandomErasing', p=1.0, value='random')])
    keys = [(epoch, row) for epoch in range(2) for row in range(4)]
    alone = {key: dataset[key] for key in reversed(keys)}
    found = [sample for batch in DataLoader(dataset, batch_size=3, sampler=keys, num_workers=2) for sample in zip(
        batch['inputs'], batch['captions'])]
    for key, (image, caption) in zip(keys, found):
        assert image.equal(alone[key]['inputs']) and caption == alone[key]['captions']


def test_every_caption_is_a_sample_of_its_own(folder):
    dataset = ImageTextPairs(dict(type='CocoCaptions', data_root=str(folder), split='val'), TO_TENSOR,
                             every_caption=True)
    found = [(dataset[0, index]['rows'], dataset[0, index]['captions']) for index in range(len(dataset))]
    assert found == [(place, f'note {2 * row + odd}') for place, row in enumerate((3, 1, 0, 2)) for odd in (1, 0)]


def test_a_bad_image_is_reported_and_a_whole_pair_of_its_class_stands_in(folder, tmp_path):
    for row in range(6):
        (tmp_path / f'{row % 2}').mkdir(exist_ok=True)
        Image.new('RGB', (9, 9), (10 * row,) * 3).save(tmp_path / f'{row % 2}' / f'{row}.png')
    (tmp_path / '1/3.png').write_bytes(b'no image')
    images = read_images(dict(type='ImageFolder', root=str(tmp_path)))
    captions = pyarrow.array([f'caption of {name}' for name in images.texts('id')])
    dataset = ImageTextPairs(images.with_column('caption', captions), TO_TENSOR, max_bad_fraction=0.5)
    bad = images.texts('id').index('1/3.png')
    seen = set()
    for epoch in range(20):
        sample = dataset[epoch, bad]
        name = images.text('id', sample['rows'])
        assert sample['captions'] == f'caption of {name}' and name in ('1/1.png', '1/5.png')
        assert round(sample['inputs'][0, 0, 0].item() * 255) == int(name[2]) * 10
        seen.add(name)
    assert len(seen) == 2 and dataset.bad_samples.counts()['train'] == 1
    strict = ImageTextPairs(images.with_column('caption', captions), TO_TENSOR, max_bad_fraction=0.1)
    with pytest.raises(DataError):
        strict[0, bad]


def test_pairs_without_captions_or_with_a_transform_of_another_kind_are_refused(folder):
    source = dict(type='ImageFolder', root=str(folder / 'classes'))
    with pytest.raises(DataError, match="no column 'caption'"):
        ImageTextPairs(source, TO_TENSOR)
    listed = dict(type='PromptedClassification', images=source)
    with pytest.raises(ConfigError, match='expected a tensor'):
        ImageTextPairs(listed, [dict(type='Resize', size=8)])
    table = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], caption=[['a'], []]))
    with pytest.raises(DataError, match="1 of 2 images have no caption; the first is 'images/1.png'"):
        ImageTextPairs(table, TO_TENSOR)
    for captions, count in ((['a', ' \n'], 1), ([['a', ''], ['\u3000']], 2)):
        table = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], caption=captions))
        with pytest.raises(DataError, match=f'{count} captions are empty'):
            ImageTextPairs(table, TO_TENSOR)


def test_a_blank_sample_has_the_longest_caption(folder):
    captions = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 2]), pyarrow.array(['a', '', 'an owl']))
    table = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png']))
    assert ImageTextPairs(table.with_column('caption', captions), TO_TENSOR).blank_sample()['captions'] == 'an owl'
    table = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], caption=[['b', 'bcd'], ['ab']]))
    assert ImageTextPairs(table, TO_TENSOR).blank_sample()['captions'] == 'bcd'


def test_the_fingerprint_follows_from_captions_too(folder):
    table = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], caption=['a', 'b']))
    other = ImageTable.from_columns(folder, dict(path=['images/0.png', 'images/1.png'], caption=['a', 'c']))
    prints = [ImageTextPairs(each, TO_TENSOR).fingerprint() for each in (table, table, other)]
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_of_joined_shards_follows_from_their_images(folder, tmp_path):
    pytest.importorskip('webdataset')
    files = dict(type='CocoCaptions', data_root=str(folder), split='val')
    shards = dict(type='ImageTextShards', shards=str(tmp_path))

    def prints(image):
        write_tar(tmp_path / '0.tar', [('a.png', picture(1)), ('a.txt', b'x'), ('b.png', image), ('b.txt', b'y')])
        images = read_images(dict(type='ConcatPairs', parts=[files, shards]))
        ends = len(images) - 2
        assert images.fingerprint() == read_images(dict(type='ConcatPairs', parts=[files, shards])).fingerprint()
        return [part.fingerprint() for part in (
            images, images.select([ends + 1, 0]), images.select([0, ends + 1]), images.select([ends, 0]),
            images.select(slice(ends)), read_images(dict(type='ConcatPairs', parts=[files])))]

    old, new = prints(picture(2)), prints(picture(2, 'JPEG'))
    assert [one == other for one, other in zip(old, new)] == [False, False, False, True, True, True]
    assert len(set(new)) == 5 and new[4] == new[5] == ImageTable.fingerprint(
        read_images(dict(type='ConcatPairs', parts=[files])))


def test_weights_say_how_much_of_an_epoch_is_of_each_part(folder):
    classes = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(folder / 'classes')))
    coco = dict(type='CocoCaptions', data_root=str(folder), split='val')
    dataset = ImageTextPairs(dict(type='ConcatPairs', parts=[classes, coco], weights=[1, 3]), TO_TENSOR)
    sampler = EpochSampler(dataset, seed=3)
    drawn = np.array([row for epoch in range(300) for _, row in (sampler.set_epoch(epoch), list(sampler))[1]])
    assert len(drawn) == 300 * 16 and abs((drawn >= 12).mean() - 0.75) < 0.02
    counts = np.bincount(drawn, minlength=16)
    assert counts[:12].min() > 60 and counts[12:].min() > 750


class Rows:
    def __init__(self, sample_weights=None):
        self.sample_weights = sample_weights

    def __len__(self):
        return 1000


def test_an_episode_is_drawn_with_replacement_from_all_rows():
    sampler = EpisodicSampler(range(1000), 50, seed=1)
    episodes = []
    for epoch in range(40):
        sampler.set_epoch(epoch)
        episodes.append([row for _, row in sampler])
    assert all(len(episode) == 50 for episode in episodes) and episodes[0] != episodes[1]
    drawn = sum(episodes, [])
    assert max(drawn) > 950 and min(drawn) < 50 and len(set(drawn)) < len(drawn)
    sampler.set_epoch(7)
    assert [row for _, row in sampler] == episodes[7]
    for options, name in ((dict(episode_size=0), 'episode_size'), (dict(episode_size=5, interval=0), 'interval')):
        with pytest.raises(ConfigError, match=name):
            EpisodicSampler(range(10), seed=1, **options)


@pytest.mark.parametrize('weights', [None, np.arange(1000)])
def test_an_episode_of_several_epochs_has_its_draws_in_another_order_each(weights):
    every = EpisodicSampler(Rows(weights), 50, seed=1)
    third = EpisodicSampler(Rows(weights), 50, seed=1, interval=3)
    orders = []
    for epoch in range(7):
        first = epoch // 3 * 3
        every.set_epoch(first)
        third.set_epoch(epoch)
        assert third.draws().tolist() == [row for _, row in every]
        assert list(third) == [(epoch, int(third.draws()[place])) for place in third.positions()]
        assert sorted(third.positions().tolist()) == list(range(50))
        orders.append(third.positions().tolist())
    assert orders[0] == orders[3] == orders[6] == list(range(50))
    assert len({tuple(order) for order in orders}) == 5, 'the order of each later epoch is its own'
