import json

import numpy as np
import pytest
import torch
from pixel_tables import SIZE, StridedEncoder, class_table
from torch.nn import functional

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.core.seeding import derive_seed
from clear.datasets.dense.decoders import GreyLevels
from clear.datasets.dense.samples import DenseSamples
from clear.datasets.dense.targets import DenseTable
from clear.evaluation.dense.making import build_head
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.task import TaskData

HEAD = dict(type='LinearPixelHead', levels=[0, 2])


def task_of(**changes):
    return PixelwiseProbe(**dict(
        dict(head=HEAD, loss=dict(type='cross_entropy'), metric='miou', recipe=dict(size=(SIZE, SIZE)), lrs=[0.03],
             epochs=3, batch_size=4, cache='none'), **changes))


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp('pixels')
    return dict(train=class_table(root / 'train', 11), test=class_table(root / 'test', 5, seed=1))


def data_of(tables, folder=None, **changes):
    storage = dict(root=str(folder / 'banks'), batch_size=4) if folder else {}
    return TaskData(images={**tables, **changes}, encoder_name='strided', storage=storage,
                    folder=folder / 'job' if folder else None)


def test_a_head_learns_what_colours_say(tables):
    result = task_of(lrs=[0.1], epochs=12).run(StridedEncoder(), data_of(tables))
    assert result.metric == 'miou' and result.higher_is_better and result.value > 0.6
    assert {**result.extras, 'curves': 0, 'grid': 0, 'metrics': 0, 'selected': 0} == dict(
        metrics=0, higher_is_better={}, n_train=10, n_val=1, n_test=5, selected=0, chosen_on='val', grid=0, curves=0,
        classes=['ground', 'red', 'green'], cache=[], unreadable=dict(train=0, val=0, test=0))


def test_training_is_that_of_a_plain_loop(tables, tmp_path):
    """Adam, poly, batches of 4 and what is left over; BatchNorm over each batch; the last epoch's head."""
    encoder, data = StridedEncoder(), data_of(dict(tables, val=tables['test']), tmp_path)
    task = task_of(lrs=None, settings=dict(a=dict(lr=0.02, schedule='poly')), seed=3, epochs=2)
    result = task.run(encoder, data)

    head = build_head(HEAD, 3, map_channels=encoder.map_channels, out_channels=3)
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    samples = DenseSamples(tables['train'], dict(size=(SIZE, SIZE)), encoder.preprocess, train=True)
    found, step, losses = [], 0, []
    for epoch in range(2):
        head.train()
        order = torch.randperm(11, generator=torch.Generator().manual_seed(derive_seed(3, 'pixelwise order', epoch)))
        total = 0.0
        for rows in order.split(4):
            batch = [samples.sample(row) for row in rows.tolist()]
            outputs = head(encoder.feature_maps(torch.stack([each.images for each in batch])), (SIZE, SIZE))
            loss = functional.cross_entropy(outputs, torch.stack([each.values for each in batch]).long(),
                                            ignore_index=255)
            optimizer.param_groups[0]['lr'] = 0.02 * (1 - step / 6) ** 0.9
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step, total = step + 1, total + loss.item() * len(rows)
        losses.append(total / 11)
        found.append({name: value.clone() for name, value in head.state_dict().items()})
    kept = torch.load(tmp_path / 'job/head.pth', weights_only=True)
    assert kept['epoch'] == result.extras['selected']['epoch'] and kept['classes'] == ['ground', 'red', 'green']
    for name, value in found[kept['epoch'] - 1].items():
        torch.testing.assert_close(kept['state_dict'][name], value, rtol=1e-4, atol=1e-6)
    assert result.extras['curves']['a']['train_loss'] == pytest.approx(losses, rel=1e-5)


def test_setting_and_epoch_are_chosen_on_validation_and_the_test_seen_once(tables, tmp_path):
    seen = []

    class Watched(type(tables['test'])):
        def open_image(self, row):
            seen.append(row)
            return super().open_image(row)

    test = tables['test']
    watched = Watched(test.root, test.table, target_kind=test.target_kind, decode=test.decode,
                      target_names=test.target_names)
    result = task_of(lrs=[0.003, 0.1], epochs=4).run(StridedEncoder(), data_of(tables, tmp_path, test=watched))
    columns = {name: curves['val_metric'] for name, curves in result.extras['curves'].items()}
    best = max((value, name, epoch) for name, column in columns.items() for epoch, value in enumerate(column, 1))
    chosen = result.extras['selected']
    assert (columns[chosen['name']][chosen['epoch'] - 1], chosen['name']) == best[:2]
    assert chosen['epoch'] == columns[best[1]].index(best[0]) + 1
    assert sorted(seen) == sorted([0, *range(5), *range(5)])  # a look, the test, examples
    lines = [json.loads(line) for line in (tmp_path / 'job/history.jsonl').read_text().splitlines()]
    assert [(line['setting'], line['epoch']) for line in lines] == [(name, epoch) for name in columns
                                                                    for epoch in (1, 2, 3, 4)]
    tested = [line for line in lines if 'test_metric' in line]
    assert [(line['setting'], line['epoch'], line['test_metric']) for line in tested] == [
        (chosen['name'], chosen['epoch'], result.value)]


@pytest.mark.parametrize('size', [1, 2, 64])
def test_numbers_do_not_depend_on_the_batches_of_evaluation(tables, size):
    one, other = (task_of(test_batch_size=each).run(StridedEncoder(), data_of(dict(tables, val=tables['test'])))
                  for each in (3, size))
    assert other.value == pytest.approx(one.value, rel=1e-6)
    for name in ('val_metric', 'val_loss'):
        assert other.extras['curves']['adam_0.03'][name] == pytest.approx(one.extras['curves']['adam_0.03'][name],
                                                                          rel=1e-5)


def test_settings_begin_with_the_same_head_and_see_the_same_batches(tables):
    alone = task_of(lrs=[0.03]).run(StridedEncoder(), data_of(tables))
    both = task_of(lrs=[0.1, 0.03]).run(StridedEncoder(), data_of(tables))
    assert both.extras['curves']['adam_0.03'] == alone.extras['curves']['adam_0.03']


def test_a_setting_that_diverges_is_out(tables):
    result = task_of(head=dict(type='PixelWiseHead'), lrs=[1e20, 0.01], optimizers=['sgd']).run(StridedEncoder(),
                                                                                             data_of(tables))
    assert result.extras['selected']['name'] == 'sgd_0.01'
    assert [row['diverged_in_epoch'] for row in result.extras['grid']] == [1, None]
    assert result.extras['curves']['sgd_1e+20']['val_metric'] == [None]
    with pytest.raises(TrainingError, match='no setting gave a finite miou'):
        task_of(head=dict(type='PixelWiseHead'), lrs=[1e20], optimizers=['sgd']).run(StridedEncoder(),
                                                                                    data_of(tables))


def test_a_single_image_that_is_left_over_joins_the_batch_before(tables):
    # 10 images of which one validates, batches of 4: 4 + 5.
    rows = []

    class Watched(torch.nn.Module):
        def __init__(self, map_channels, out_channels):
            super().__init__()
            self.norm, self.last = torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, out_channels, 1)

        def forward(self, maps, size):
            if self.training:
                rows.append(len(maps[0]))
            return functional.interpolate(self.last(self.norm(maps[0])), size)

    few = dict(tables, train=tables['train'].select(np.arange(10)))
    task_of(head=dict(type=Watched), epochs=1).run(StridedEncoder(), data_of(few))
    assert rows == [4, 5]


def test_clips_go_to_a_head_for_two_images(tmp_path):
    tables = dict(train=class_table(tmp_path / 'train', 12, frames=2), test=class_table(tmp_path / 'test', 4, frames=2))
    found = [task_of(head=dict(type='SiameseHead'), lrs=[0.01], cache=cache, cache_dtype='float32').run(
        StridedEncoder(), data_of(tables, tmp_path / cache)) for cache in ('none', 'maps')]
    assert found[0].extras['n_train'] == 5 and found[0].extras['n_test'] == 2
    assert found[0].value == pytest.approx(found[1].value, rel=1e-6)
    with pytest.raises(ConfigError, match='maps of clips of 2 images'):
        task_of().run(StridedEncoder(), data_of(tables))


def test_legacy_takes_the_last_epoch_and_drops_what_is_left_over(tables):
    result = task_of(legacy=True, lrs=[0.001, 0.1], epochs=2, test_batch_size=2).run(StridedEncoder(), data_of(tables))
    extras = result.extras
    assert (extras['n_train'], extras['n_val'], extras['n_test'], extras['chosen_on']) == (11, 0, 4, 'test')
    tests = {row['name']: row['test']['miou'] for row in extras['grid']}
    assert result.value == max(tests.values()) and extras['selected']['epoch'] == 2
    assert 'legacy_iou' in extras['metrics']
    with pytest.raises(ConfigError, match='11 training images make no batch of 16'):
        task_of(legacy=True, batch_size=16, test_batch_size=5).run(StridedEncoder(), data_of(tables))
    with pytest.raises(ConfigError, match='5 test images make no batch of 64'):
        task_of(legacy=True).run(StridedEncoder(), data_of(tables))


def test_training_images_are_looked_at_as_those_that_validate(tables, tmp_path):
    result = task_of(lrs=[0.03]).run(StridedEncoder(), data_of(dict(tables, val=tables['test'])))
    other = dict(tables, val=tables['train'].select([0, 2, 4, 6, 8]))  # 5 of 11, spread evenly
    same = task_of(lrs=[0.03]).run(StridedEncoder(), data_of(other))
    assert same.extras['curves']['adam_0.03']['val_metric'] == result.extras['curves']['adam_0.03']['train_metric']


def test_what_is_wrong_is_said_before_anything_is_trained(tables, tmp_path):
    encoder = StridedEncoder()

    def said(changes, error=ConfigError, **images):
        with pytest.raises(error) as caught:
            task_of(**changes).run(encoder, data_of(tables, None, **images))
        return str(caught.value)

    siamese = said(dict(head=dict(type='SiameseHead')))
    assert 'SiameseHead, the encoder or the loss does not fit: maps of single images' in siamese
    assert '(1, 5, 16, 16), the targets need (1, 3, 16, 16)' in said(dict(head=dict(HEAD, out_channels=5)))
    assert "targets of kind 'classes'. outputs (1, 3, 16, 16), targets" in said(dict(loss=dict(type='l1')))
    assert "metric is 'epe'" in said(dict(metric='epe'))
    assert "no key 'foo'" in said(dict(metric_options=dict(foo=1)))
    assert 'the loss does not fit' in said(dict(loss=dict(type='cross_entropy', weight=[1.0, 2.0])))
    masks = class_table(tmp_path / 'masks', 3, kind='mask')
    for name in ('cross_entropy', 'focal', 'sparse_label'):
        loss = dict(loss=dict(type=name), metric='iou')
        assert 'needs an output for each class' in said(loss, train=masks, test=masks)
    assert "The targets of 'test' are 'mask', those of 'train' 'classes' (3: ground" in said({}, DataError, test=masks)
    with pytest.raises(ConfigError, match='has no feature maps'):
        task_of().run(torch.nn.Linear(1, 1), data_of(tables))
    from clear.datasets.table import ImageTable
    plain = ImageTable(tables['train'].root, tables['train'].table, kind='ImageFolder')
    assert "are read by 'ImageFolder', which knows no target for every pixel" in said({}, train=plain)
    with pytest.raises(ConfigError, match="'train' and"):
        task_of().run(encoder, TaskData(images={}))
    one = dict(tables, train=tables['train'].select(np.arange(1)))
    few = 'no image is left for train; there are 1 training and 5 test images, and val_fraction = 0.1 of the former'
    with pytest.raises(DataError, match=few):
        task_of().run(encoder, data_of(one))


@pytest.mark.parametrize('changes, said', [
    (dict(settings=dict(a=dict(lr=1.0, rate=2))), "settings\\['a'\\]: a setting has no key 'rate'"),
    (dict(settings=dict(a=dict(lr=0.1)), lrs=[1.0]), 'settings and lrs were given'),
    (dict(settings=dict(a=dict(optimizer='adam'))), "settings\\['a'\\] is"),
    (dict(lrs=None, optimizers=['sgd']), 'optimizers need lrs'),
    (dict(lrs=[0.1, 0.1]), 'a value is there twice'),
    (dict(lrs=[0]), 'lrs is 0; expected a number above 0'),
    (dict(lrs=[0.1], schedules=['steps']), "No schedule 'steps'"),
    (dict(head='PixelWiseHead'), "head is 'PixelWiseHead'; expected dict"),
    (dict(head=dict(type='PixelwiseHead')), 'PixelWiseHead'),
    (dict(loss=dict(type='l3')), "loss.type is 'l3'"),
    (dict(recipe=dict(sizes=3)), "recipe has no key 'sizes'"),
    (dict(cache='maps', recipe=dict(size=(8, 8), mirror=0.5)), "cache='maps' needs images that are the same"),
    (dict(encoder_lr=0.1), 'encoder_lr goes with train_encoder=True'),
    (dict(train_encoder=True, cache='maps'), "cache='maps' stores maps of a frozen encoder"),
    (dict(settings=dict(a=dict(optimizer='adam', lrr=0.1))), "settings\\['a'\\]: a setting has no key 'lrr'"),
    (dict(head=dict(type='PixelWiseHead', wdth=3)), "head: PixelWiseHead has no key 'wdth'"),
    (dict(test_recipe=dict(size=(8, 8), mirror=0.5)), 'test_recipe is .*drawn at random'),
    (dict(test_recipe=dict(sise=8)), "test_recipe has no key 'sise'"),
    (dict(test_recipe=dict(size='a')), "test_recipe.size is 'a'"),
    (dict(loss=dict(type='bce_logits', wait=1)), "no key 'wait'. Known: none"),
    (dict(epochs=0), 'epochs is 0'), (dict(val_fraction=1), 'val_fraction is 1'),
    (dict(protocol='virbs'), "protocol is 'virbs'"), (dict(cache='disk'), "cache is 'disk'"),
])
def test_arguments_that_are_none(changes, said):
    with pytest.raises(Exception, match=said) as caught:
        task_of(**dict(dict(lrs=None) if 'settings' in changes else {}, **changes))
    assert type(caught.value).__module__ == 'clear.core.errors'


def test_every_metric_has_its_direction(tables):
    depths = {name: DenseTable(table.root, table.table, target_kind='depth', decode=GreyLevels(positive=True))
              for name, table in tables.items()}
    result = task_of(loss=dict(type='l1'), metric='l1', epochs=1).run(StridedEncoder(), data_of(depths))
    assert not result.higher_is_better and {*result.extras['metrics']} == {'l1', 'abs_rel', 'rmse', 'delta1', 'delta2',
                                                                           'delta3'}
    assert result.extras['higher_is_better'] == dict(delta1=True, delta2=True, delta3=True)


def test_mixed_precision_gives_almost_the_same(tables):
    exact, rounded = (task_of(amp=amp).run(StridedEncoder(), data_of(tables)) for amp in (False, True))
    losses = [each.extras['curves']['adam_0.03']['train_loss'] for each in (exact, rounded)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05) and losses[0] != losses[1]


@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
def test_rates_and_momenta_of_one_cycle_are_those_of_torch(optimizer):
    from clear.evaluation.dense.training.learner import Learner, Schedule
    from clear.evaluation.dense.training.settings import Setting
    from clear.evaluation.image.schedules import lr_factors, momenta

    cycle = dict(type='one_cycle', momentum=(0.85, 0.95))
    setting = Setting('a', 0.1, optimizer, cycle)
    schedule = Schedule(lr_factors(cycle, 3, 4), momenta(cycle, 3, 4))
    model = torch.nn.Linear(1, 1)
    learner = Learner(model, setting, [dict(params=list(model.parameters()), lr=0.1)], torch.amp.GradScaler('cpu',
                                                                                                        enabled=False))
    other = setting.build_optimizer([dict(params=list(torch.nn.Linear(1, 1).parameters()), lr=0.1)])
    torchs = torch.optim.lr_scheduler.OneCycleLR(other, 0.1, total_steps=12)
    for step in range(12):
        learner.set_rates(*schedule.at(step))
        for key in ('lr', 'betas' if optimizer == 'adam' else 'momentum'):
            assert learner.optimizer.param_groups[0][key] == pytest.approx(other.param_groups[0][key])
        other.step()
        torchs.step()


@pytest.mark.parametrize('split, recipe, test_recipe', [
    ('train', dict(crop=8), dict(size=(SIZE, SIZE))), ('test', dict(size=(SIZE, SIZE)), dict(size=(8, 24)))])
def test_an_encoder_of_one_size_is_refused_before_anything_is_encoded(tables, split, recipe, test_recipe):
    """As timm's transformers, which assert it; training and test may have different sizes."""
    class OneSize(StridedEncoder):
        def feature_maps(self, images):
            assert images.shape[2:] == (SIZE, SIZE), "Input height doesn't match model."
            return super().feature_maps(images)

    encoder = OneSize()
    with pytest.raises(ConfigError, match=f"of .* pixels \\('{split}'\\).* Input height doesn't match model"):
        task_of(recipe=recipe, test_recipe=test_recipe).run(encoder, data_of(tables))
    assert encoder.num_images <= 1


def test_virb_has_no_momentum_that_is_not_said():
    named = dict(a=dict(optimizer='sgd', lr=0.1), b=dict(optimizer='sgd', lr=0.1, momentum=0.8))
    assert [each.momentum for each in task_of(lrs=None, settings=named).all_settings] == [0.9, 0.8]
    assert [each.momentum for each in task_of(lrs=None, settings=named, protocol='virb').all_settings] == [0.0, 0.8]
    assert [each.momentum for each in task_of(optimizers=['sgd'], protocol='virb').all_settings] == [0.0]
