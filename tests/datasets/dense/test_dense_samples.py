"""Images and targets move together, to the pixel, for every kind of target."""

import numpy as np
import pytest
import torch
from dense_tables import coded_image, write_table
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets.dense import DenseSamples, batches
from clear.datasets.dense.colours import draw_colours
from clear.datasets.dense.samples import levels_of_target
from clear.datasets.images.decode import UnreadableImage
from clear.models.towers.image.preprocess import Preprocess

PLAIN = Preprocess(mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))  # so that a normalised pixel is the level
KINDS = ('classes', 'mask', 'depth', 'edges', 'luminance', 'flow', 'image')
HEIGHT, WIDTH = 20, 30


def target_of(kind, height=HEIGHT, width=WIDTH):
    """A target whose value tells the place, and which is not valid where row + column is a multiple of 5."""
    rows, columns = np.mgrid[:height, :width]
    valid = (rows + columns) % 5 > 0
    values = {'classes': rows % 10 * 10 + columns % 10, 'mask': (rows + columns) % 2, 'image': rows,
              'flow': np.stack([columns - 9, rows - 7], -1)}.get(kind, 1.0 + rows * 100 + columns)
    if kind in ('depth', 'edges'):
        values[~valid] = np.nan
    return values.astype(np.uint8 if kind in ('classes', 'mask', 'image') else np.float32), valid


def shown(values, valid, kind):
    """The same with 0, or 255 of classes, where it is not valid."""
    return np.where(valid[..., None] if kind == 'flow' else valid, values, 255 if kind == 'classes' else 0)


def table_of(root, kind='classes', count=4, frames=1, size=(HEIGHT, WIDTH)):
    images = [coded_image(*size) for _ in range(count * frames)]
    for number, image in enumerate(images):
        image[..., 2] = number
    targets = [None if number % frames else target_of(kind, *size) for number in range(count * frames)]
    names = [f'class {number}' for number in range(100)] if kind == 'classes' else ()
    clips = None if frames == 1 else [f'clip {number // frames}' for number in range(count * frames)]
    return write_table(root, images, targets, kind, names, clips)


def levels(images):
    return images.round().int().numpy()


def samples_of(table, recipe, train=True, **options):
    return DenseSamples(table, recipe, PLAIN, train=train, **options)


# Moved together


@pytest.mark.parametrize('kind', KINDS)
def test_each_pixel_keeps_its_target(tmp_path, kind):
    """Mirrored and cut: each pixel says where it came from, and the target there must be its own."""
    table = table_of(tmp_path, kind)
    samples = samples_of(table, dict(mirror=.5, crop=(11, 17)))
    values, valid = target_of(kind)
    seen = set()
    for epoch in range(12):
        sample = samples.sample(1, epoch)
        rows, columns, number = levels(sample.images)
        assert (number == 1).all() and sample.images.shape == (3, 11, 17)
        is_mirrored = columns[0, 0] > columns[0, 1]
        seen.add((bool(is_mirrored), int(rows.min()), int(columns.min())))
        if kind == 'image':
            assert np.array_equal(levels(levels_of_target(sample.values)), levels(sample.images))
            assert sample.valid.all()
            continue
        assert np.array_equal(sample.valid.numpy(), valid[rows, columns])
        expected = shown(values, valid, kind)[rows, columns]
        if kind == 'flow':
            expected = np.moveaxis(expected * [-1 if is_mirrored else 1, 1], -1, 0)
        found = sample.values.numpy()
        assert found.dtype == (np.uint8 if kind in ('classes', 'mask') else np.float32)
        assert np.array_equal(found, expected[None] if found.ndim > expected.ndim else expected)
    assert len(seen) > 8 and {mirrored for mirrored, *_ in seen} == {True, False}


@pytest.mark.parametrize('kind', KINDS)
def test_scaled_then_cut(tmp_path, kind):
    """Twice the size: each pixel four times; the crop lies inside what was scaled."""
    samples = samples_of(table_of(tmp_path, kind), dict(scale=(2, 2), crop=(25, 50), interpolation='nearest'))
    values, valid = target_of(kind)
    lowest = set()
    for epoch in range(8):
        sample = samples.sample(2, epoch)
        rows, columns, _ = levels(sample.images)
        lowest.add((int(rows.max()), int(columns.max())))
        assert (np.diff(rows[:, 0])[1:] + np.diff(rows[:, 0])[:-1] == 1).all(), 'no black inside'
        if kind in ('depth', 'edges', 'luminance', 'image'):
            assert kind == 'image' or np.array_equal(sample.valid.numpy(), valid[rows, columns])
            continue
        expected = shown(values, valid, kind)[rows, columns]
        if kind == 'flow':
            expected = np.moveaxis(expected * 2, -1, 0)
        assert np.array_equal(sample.values.numpy(), expected)
        assert np.array_equal(sample.valid.numpy(), valid[rows, columns])
    assert any(row == HEIGHT - 1 for row, _ in lowest) or max(lowest)[0] > 12


def test_scale_is_drawn_evenly_from_its_range(tmp_path):
    samples = samples_of(table_of(tmp_path, 'mask'), dict(scale=(.5, 2)))
    heights = [samples.sample(0, epoch).images.shape[1] for epoch in range(60)]
    assert min(heights) < 14 and max(heights) > 34 and 21 < np.mean(heights) < 29
    assert {samples.sample(0, epoch).images.shape[2] / WIDTH * HEIGHT / height - 1 < .1
            for epoch, height in enumerate(heights)} == {True}


@pytest.mark.parametrize('kind', KINDS)
def test_a_crop_larger_than_the_image(tmp_path, kind):
    samples = samples_of(table_of(tmp_path, kind), dict(crop=(HEIGHT + 3, WIDTH + 2), jitter=(.4, .4, .4, .2), gray=.5))
    sample = samples.sample(3)
    assert sample.images.shape == (3, HEIGHT + 3, WIDTH + 2) and sample.original_size == (HEIGHT, WIDTH)
    assert not sample.images[:, HEIGHT:].any() and not sample.images[:, :, WIDTH:].any()
    assert not sample.valid[HEIGHT:].any() and not sample.valid[:, WIDTH:].any()
    if kind != 'image':
        assert np.array_equal(sample.valid[:HEIGHT, :WIDTH].numpy(), target_of(kind)[1])
        assert (sample.values[..., HEIGHT:, :] == (255 if kind == 'classes' else 0)).all()


@pytest.mark.parametrize('kind', ['classes', 'flow'])
def test_frames_of_a_clip_move_together(tmp_path, kind):
    samples = samples_of(table_of(tmp_path, kind, count=3, frames=2), dict(mirror=.5, crop=10, scale=(.8, 1.5)))
    assert samples.rows.tolist() == [0, 2, 4] and len(samples) == 3 and samples.frames == 2
    for epoch in range(6):
        sample = samples.sample(2, epoch)
        assert sample.images.shape == (2, 3, 10, 10) and sample.row == 2
        assert torch.equal(sample.images[0, :2], sample.images[1, :2])
        assert {2, 3} == {int(image[2].max()) for image in sample.images}


def test_clips_of_frames_of_two_sizes(tmp_path):
    table = table_of(tmp_path, 'flow', count=1, frames=2)
    Image.fromarray(coded_image(9, 9)).save(tmp_path / '001.png')
    with pytest.raises(DataError, match="'001.png' has 9 x 9 pixels, '000.png' of the same clip 30 x 20"):
        samples_of(table, None).sample(0)


def test_a_target_of_another_size(tmp_path):
    table = table_of(tmp_path, 'mask')
    Image.fromarray(coded_image(9, 9)).save(tmp_path / '001.png')
    with pytest.raises(DataError, match='001.npz.*30 x 20.*9 x 9'):
        samples_of(table, None).sample(1)


# Pixels of images


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_images_are_those_of_a_squashing_encoder(tmp_path, order, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    table = write_table(tmp_path, [image], [(np.zeros((37, 53), np.uint8), np.ones((37, 53), bool))], 'mask')
    preprocess = Preprocess(crop=24, squash=True, channel_order=order, interpolation=interpolation)
    found = DenseSamples(table, dict(size=(24, 24), interpolation=interpolation), preprocess, train=False).sample(0)
    assert torch.equal(found.images, preprocess.build()(Image.fromarray(image)))


def test_shorter_side(tmp_path):
    sample = samples_of(table_of(tmp_path, 'depth'), dict(size=10), train=False).sample(0)
    assert sample.images.shape == (3, 10, 15) and sample.values.shape == (1, 10, 15)


def test_target_at_its_own_size(tmp_path):
    samples = samples_of(table_of(tmp_path, 'classes'), dict(size=(8, 8), target_at='original'), train=False)
    sample = samples.sample(0)
    assert sample.images.shape == (3, 8, 8)
    assert np.array_equal(sample.values.numpy(), shown(*target_of('classes'), 'classes'))
    with pytest.raises(ConfigError, match='is for evaluation'):
        samples_of(samples.table, dict(size=(8, 8), target_at='original'))


@pytest.mark.parametrize('preprocess', [
    Preprocess(), Preprocess(mean=(.5, .5, .5), std=(.5, .5, .5)),
    Preprocess(mean=(.4, .5, .6), std=(.2, .3, .4), channel_order='BGR')])
def test_colours_to_find_again_are_the_same_for_every_encoder(tmp_path, preprocess):
    """Else an encoder of deviation 0.5 would have half the error of one with ImageNet's for the same picture."""
    sample = DenseSamples(table_of(tmp_path, 'image'), dict(size=(4, 5)), preprocess, train=False).sample(0)
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / '000.png').resize((5, 4), Image.Resampling.BILINEAR)))
    for channel, (mean, deviation) in enumerate([(.485, .229), (.456, .224), (.406, .225)]):
        assert sample.values[channel].numpy() == pytest.approx((pixels[..., channel].numpy() / 255 - mean) / deviation,
                                                               abs=1e-5)


def test_a_hole_in_the_input_alone(tmp_path):
    table = table_of(tmp_path, 'image')
    for train in (True, False):
        samples = DenseSamples(table, dict(size=(12, 12), hole=(3, 7), mirror=.5), Preprocess(), train=train)
        sample = samples.sample(0)
        hole = torch.zeros(12, 12, dtype=torch.bool)
        hole[3:7, 3:7] = True
        assert not sample.images[:, hole].any() and sample.values[:, hole].all() and sample.valid.all()
        assert sample.images[:, ~hole].numpy() == pytest.approx(sample.values[:, ~hole].numpy(), abs=1e-6)
    with pytest.raises(ConfigError, match='ends outside an image of 30 x 20'):
        samples_of(table, dict(hole=(10, 21))).sample(0)


def test_a_crop_is_drawn_anew_until_it_has_two_classes(tmp_path):
    values = np.zeros((40, 40), np.uint8)
    values[30:, 30:] = 1
    valid = np.ones((40, 40), bool)
    table = write_table(tmp_path, [coded_image(40, 40)], [(values, valid)], 'classes', ('a', 'b'))
    shares = {}
    for tries in (1, 11):
        samples = samples_of(table, dict(crop=15, crop_classes=dict(least=2, tries=tries)))
        shares[tries] = np.mean([len(samples.sample(0, epoch).values.unique()) == 2 for epoch in range(200)])
    share = (10 / 26)**2  # of all places have both
    assert shares == pytest.approx({1: share, 11: 1 - (1 - share)**11}, abs=.08)


def test_depth_has_no_classes_to_crop_for(tmp_path):
    with pytest.raises(ConfigError, match="counts classes; targets are of kind 'depth'"):
        samples_of(table_of(tmp_path, 'depth'), dict(crop=9, crop_classes=dict(least=2, tries=2)))


# Colours


def test_colours_change_images_alone_and_frames_alike(tmp_path):
    table = table_of(tmp_path, 'classes', count=2, frames=2)
    plain = samples_of(table, None).sample(0)
    samples = samples_of(table, dict(jitter=(.4, .4, .4, .2), gray=.3))
    grey = 0
    for epoch in range(20):
        sample = samples.sample(0, epoch)
        assert torch.equal(sample.values, plain.values) and torch.equal(sample.valid, plain.valid)
        assert not torch.equal(sample.images, plain.images) and 0 <= sample.images.min() <= sample.images.max() <= 255.1
        grey += bool((sample.images[:, 0] == sample.images[:, 1]).all())
    assert 1 <= grey <= 12


def test_equal_frames_stay_equal(tmp_path):
    table = table_of(tmp_path, 'mask', count=1, frames=2)
    (tmp_path / '001.png').write_bytes((tmp_path / '000.png').read_bytes())
    sample = samples_of(table, dict(jitter=(.4, .4, .4, .2), gray=.5, scale=(.5, 1), mirror=.5)).sample(0, 3)
    assert torch.equal(sample.images[0], sample.images[1])


def test_colours_are_drawn_as_torchvision_does():
    import random

    draws = random.Random(0)
    drawn = [draw_colours((.4, 0, 1.5, .2), .25, draws) for _ in range(2000)]
    factors = np.array([factors for _, factors, _ in drawn])
    assert {tuple(sorted(order)) for order, _, _ in drawn} == {(0, 2, 3)}, 'a strength of 0 is left out'
    assert len({tuple(order) for order, _, _ in drawn}) == 6
    for column, (low, high) in zip(factors.T, ((.6, 1.4), (1, 1), (0, 2.5), (-.2, .2))):
        assert low <= column.min() and column.max() <= high
        assert column.mean() == pytest.approx((low + high) / 2, abs=.05)
    assert np.mean([is_gray for _, _, is_gray in drawn]) == pytest.approx(.25, abs=.03)
    assert draw_colours(None, 0, draws)[0] == [] and draw_colours(None, 1, draws)[2]


# Random choices


RANDOM = dict(jitter=(.4, .4, .4, .2), gray=.2, scale=(.5, 2), mirror=.5, crop=12)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ('images', 'values', 'valid'))


def test_draws_follow_from_seed_epoch_and_sample(tmp_path):
    table = table_of(tmp_path, 'depth')
    samples = samples_of(table, RANDOM, seed=1)
    first = samples.sample(2, 5)
    torch.rand(3), np.random.rand(), samples.sample(1, 5)
    assert same(samples.sample(2, 5), first) and same(samples_of(table, RANDOM, seed=1).sample(2, 5), first)
    assert not same(samples.sample(2, 6), first) and not same(samples_of(table, RANDOM, seed=2).sample(2, 5), first)
    assert not torch.equal(samples.sample(3, 5).images[:2], first.images[:2])
    assert same(samples_of(table.select([2]), RANDOM, seed=1).sample(0, 5), first), 'by its id, not by its row'


def test_batches_do_not_depend_on_workers_or_order(tmp_path):
    table = table_of(tmp_path, 'flow', count=5, frames=2)
    samples = samples_of(table, RANDOM)
    rows = [8, 2, 0, 6, 4]
    state = torch.get_rng_state()
    found = [list(batches(samples, rows, 3, 2, workers)) for workers in (0, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    for batch, other in zip(*found):
        assert same(batch, other) and torch.equal(batch.rows, other.rows)
    assert [batch.rows.tolist() for batch in found[0]] == [[8, 2], [0, 6], [4]]
    assert found[0][0].images.shape == (2, 2, 3, 12, 12) and found[0][0].sizes.tolist() == [[HEIGHT, WIDTH]] * 2
    single = samples.sample(6, 3)
    assert torch.equal(found[0][1].images[1], single.images) and torch.equal(found[0][1].values[1], single.values)
    [last] = batches(samples, rows, 3, 2, start=2)
    assert same(last, found[0][2]) and len(last) == 1


def test_evaluation_draws_nothing(tmp_path):
    samples = samples_of(table_of(tmp_path, 'classes'), RANDOM, train=False)
    assert samples.sample(0, 1).images.shape == (3, HEIGHT, WIDTH) and same(samples.sample(0, 1), samples.sample(0, 2))


# Sizes, and images that cannot be read


def mixed(root):
    sizes = [(6, 8), (8, 6), (6, 8), (6, 8), (8, 6)]
    targets = [target_of('mask', *size) for size in sizes]
    return write_table(root, [coded_image(*size) for size in sizes], targets, 'mask')


def test_sizes_apart_in_evaluation(tmp_path):
    samples = samples_of(mixed(tmp_path), None, train=False)
    found = list(batches(samples, range(5), 0, 3))
    assert [batch.rows.tolist() for batch in found] == [[0, 2], [1], [3], [4]]
    assert [tuple(batch.images.shape[2:]) for batch in found] == [(6, 8), (8, 6), (6, 8), (8, 6)]


def test_sizes_that_differ_in_training(tmp_path):
    with pytest.raises(DataError, match='images of 8 x 6 and 6 x 8 pixels are in one batch'):
        list(batches(samples_of(mixed(tmp_path), dict(mirror=.5)), range(5), 0, 3))


def test_an_unreadable_image_is_left_out_of_evaluation(tmp_path):
    table = table_of(tmp_path, 'depth')
    (tmp_path / '001.png').write_bytes(b'no image')
    samples = samples_of(table, None, train=False, max_bad_fraction=.5)
    found = list(batches(samples, range(4), 0, 2, num_workers=1))
    assert [batch.rows.tolist() for batch in found] == [[0], [2, 3]]
    assert samples.bad == {1: 'not an image'}
    with pytest.raises(UnreadableImage):
        samples.sample(1)


def test_another_sample_stands_in_for_it_in_training(tmp_path):
    table = table_of(tmp_path, 'depth')
    (tmp_path / '001.png').unlink()
    samples = samples_of(table, dict(crop=9), max_bad_fraction=.5)
    stood_in = set()
    for epoch in range(8):
        found = list(batches(samples, [0, 1, 3], epoch, 3))
        again = list(batches(samples, [0, 1, 3], epoch, 1, num_workers=1, start=1))
        assert found[0].rows[1] == again[0].rows[0] and torch.equal(found[0].images[1], again[0].images[0])
        assert found[0].rows[[0, 2]].tolist() == [0, 3]
        stood_in.add(int(found[0].rows[1]))
    assert stood_in == {0, 3} and samples.bad == {1: 'missing'}


@pytest.mark.parametrize('train', [True, False])
def test_too_many_unreadable_images(tmp_path, train):
    table = table_of(tmp_path, 'depth')
    (tmp_path / '001.png').unlink()
    samples = samples_of(table, dict(size=(9, 9)), train=train, max_bad_fraction=.2)
    with pytest.raises(DataError, match=r"1 of 4 samples cannot be read \(25.0%\).*'001.png', missing"):
        list(batches(samples, range(4), 0, 2))
    for row in (0, 2, 3):
        (tmp_path / f'00{row}.png').unlink()
    with pytest.raises(DataError, match='of 4 samples cannot be read'):
        list(batches(samples_of(table, dict(size=(9, 9)), train=train, max_bad_fraction=1.), range(4), 0, 2))


def test_a_strip_that_would_become_too_large(tmp_path):
    table = table_of(tmp_path, 'mask', count=1, size=(1, 5000))
    with pytest.raises(UnreadableImage, match='would become 5000000 x 1000'):
        samples_of(table, dict(size=1000), train=False).sample(0)
