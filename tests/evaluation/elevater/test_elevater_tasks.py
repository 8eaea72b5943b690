"""ELEVATER's tasks on two toy sets in their storage."""

import copy
import json
import math

import pytest
import torch
from elevater_sets import COLOURS, CORNERS, MULTI, SINGLE, write_toy_sets
from short_runs import CONFIGS
from tiny_text import TINY_CLIP
from torch.nn import functional

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.datasets import read_images
from clear.evaluation.elevater.base import labels_of, zero_shot_probabilities
from clear.evaluation.elevater.encoders import image_tower, pretrained_log_scale, without_projection
from clear.evaluation.elevater.fine_tune import ElevaterFineTune, FineTuned
from clear.evaluation.elevater.heads.head import BatchNormHead, language_weights, random_weights
from clear.evaluation.elevater.heads.head_grid import HeadRule
from clear.evaluation.elevater.heads.protocol import Part, Protocol
from clear.evaluation.elevater.heads.scores import score_heads, score_probabilities
from clear.evaluation.elevater.linear import ElevaterLinear
from clear.evaluation.elevater.sets import AVERAGED
from clear.evaluation.elevater.zero_shot import ElevaterZeroShot
from clear.evaluation.task import TaskData
from clear.features import FeatureBank, extract
from clear.models.alignment.pair import TowerPair
from clear.registry import TASKS

METRIC = {SINGLE: 'top1', MULTI: 'map_11point'}
NONE = dict(search='none', lr=0.1, l2=1e-6, final_epochs=4)


@pytest.fixture(scope='module')
def encoder():
    return TowerPair(dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP),
                     dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP))


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    return write_toy_sets(tmp_path_factory.mktemp('sets'))


@pytest.fixture(scope='module')
def data(sets, encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp('banks')
    found = {}
    for name in (SINGLE, MULTI):
        images = {split: read_images(dict(type='ElevaterSet', root=str(sets), set=name, split=split))
                  for split in ('train', 'test')}
        banks = {split: extract(encoder, table, root=root, dtype='float32') for split, table in images.items()}
        found[name] = TaskData(bank=banks, images=images, encoder_name='tiny')
    return found


def task(kind, name, **options):
    return kind(set=name, metric=METRIC[name], **options)


def test_tasks_are_registered_and_say_what_they_need():
    assert {'ElevaterZeroShot', 'ElevaterLinear', 'ElevaterFineTune'} <= {*TASKS.known_names()}
    assert ElevaterZeroShot(set='mnist').needs == ('images', 'bank', 'text_encoder')
    assert ElevaterZeroShot(set='kitti-distance').needs == ('images', 'text_encoder')  # no centre cut: its own bank
    assert ElevaterLinear(set='mnist', init='random').needs == ('images', 'bank')
    assert ElevaterLinear(set='mnist', merge_projection=True).needs == ('images', 'text_encoder')
    assert ElevaterFineTune(set='mnist').needs == ('images', 'text_encoder')


@pytest.mark.parametrize('name', [SINGLE, MULTI])
def test_zero_shot_is_the_cosine_with_class_texts(name, data, encoder):
    found = task(ElevaterZeroShot, name).run(encoder, data[name])
    names = list(COLOURS) if name == SINGLE else list(CORNERS)
    texts = functional.normalize(encoder.encode_text([f'a photo of a {each}.' for each in names]), dim=1)
    images = data[name].images['test']
    pixels = torch.stack([encoder.preprocess.build()(images.open_image(row)) for row in range(len(images))])
    with torch.no_grad():
        cosines = functional.normalize(encoder(pixels), dim=1) @ texts.T
    if name == SINGLE:
        expected = (cosines.argmax(1) == torch.tensor(images.label_array())).float().mean().item()
    else:
        expected = eleven_points((100 * cosines.double()).softmax(1), labels_of(images))
    assert found.metric == METRIC[name]
    assert found.value == pytest.approx(expected, abs=1e-4)


def eleven_points(probabilities, labels):
    """Mean over classes of the mean over recalls of the highest precision from there on, by loops."""
    each = []
    for column in range(probabilities.shape[1]):
        order = probabilities[:, column].argsort(descending=True).tolist()
        hits = [column in labels[row] for row in order]
        curve = [(sum(hits[:k]) / sum(hits), sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]
        each.append(sum(max((precision for recall, precision in curve if recall >= level / 10 - 1e-9), default=0)
                        for level in range(11)) / 11)
    return sum(each) / len(each)


def test_scores_of_heads_are_those_of_each():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 5, 30), torch.arange(30) % 3  # two classes do not occur
    logits[2, 1, 4] = math.nan
    for metric in ('top1', 'mean_per_class'):
        together = score_heads(metric, logits, labels)
        assert together[2] == 0
        for head in (0, 1, 3):
            rivals = logits[head] if metric == 'top1' else logits[head, :3]  # classes without an image are none
            hits = rivals.T.argmax(1) == labels
            means = [hits[labels == each].float().mean().item() for each in range(3)]
            expected = hits.float().mean().item() if metric == 'top1' else sum(means) / 3
            assert together[head].item() == pytest.approx(expected)
            assert score_probabilities(metric, logits[head].T.softmax(1), labels) == pytest.approx(expected)
    tied = torch.zeros(1, 5, 30)
    assert score_heads('top1', tied, labels).item() == 0  # behind all of equal score
    assert score_heads('roc_auc', torch.randn(2, 2, 6), torch.zeros(6, dtype=torch.int64)).tolist() == [0, 0]
    with pytest.raises(ValueError, match='not defined'):
        score_probabilities('roc_auc', torch.full((6, 2), 0.5), torch.zeros(6, dtype=torch.int64))


def test_language_start_is_zero_shot_before_it_learns(data, encoder):
    linear, zero = task(ElevaterLinear, SINGLE), task(ElevaterZeroShot, SINGLE)
    test = zero.rows('test', encoder, data[SINGLE])
    weight, bias, scale, _ = linear.start(encoder, list(COLOURS), 16, 0)
    with torch.no_grad():
        found = BatchNormHead(weight, bias, log_scale=scale).eval()(test.features).softmax(1)
    vectors, _ = zero.class_vectors(encoder, list(COLOURS))
    assert torch.equal(found.argmax(1), zero_shot_probabilities(test.features, vectors).argmax(1))
    assert zero.score(test, found) == zero.run(encoder, data[SINGLE]).value


@pytest.mark.parametrize('name', [SINGLE, MULTI])
@pytest.mark.parametrize('shots', [1, 5, -1])
def test_linear_is_a_plain_loop_over_the_rows_that_it_says(name, shots, data, encoder):
    """The given rate and decay: sampling, merging, training and the metric, with modules and autograd."""
    linear = task(ElevaterLinear, name, shots=shots, seeds=[3], **NONE)
    result = linear.run(encoder, data[name])
    features, _ = data[name].bank['train'].tensors()
    labels = labels_of(data[name].images['train'])
    kept = [row for row, own in enumerate(labels) if own or name == MULTI]
    features, labels = features[kept], [labels[row] for row in kept]
    num_classes = 3 if name == SINGLE else 4
    rows = linear.learning_rows(labels, num_classes, 3).final
    assert result.extras['n_train'] == result.extras['selected']['3']['n_train'] == len(rows)
    if name == SINGLE:
        assert len(rows) == {1: 3, 5: 15, -1: 30}[shots]
    targets = linear.targets(labels, num_classes, torch.float32)
    weight, bias, *_ = linear.start(encoder, list(data[name].images['train'].class_names), 16, 3)
    head = train_alone(BatchNormHead(weight, bias), features[rows], targets[rows], 0.1, 1e-6, epochs=4, seed=3)
    with torch.no_grad():
        probabilities = head(data[name].bank['test'].tensors()[0]).double().softmax(1)
    assert result.value == pytest.approx(linear.score(linear.rows('test', encoder, data[name]), probabilities),
                                         abs=1e-6)


def train_alone(head, features, targets, lr, l2, epochs, seed):
    from clear.evaluation.elevater.heads.head_grid import head_batches

    optimizer = torch.optim.SGD(head.linear.parameters(), lr, momentum=0.9, weight_decay=l2)
    loss_of = functional.cross_entropy if targets.ndim == 1 else functional.binary_cross_entropy_with_logits
    for epoch in range(epochs):
        head.train()
        for batch in head_batches(len(features), 64, seed, epoch):
            optimizer.zero_grad()
            loss_of(head(features[batch]), targets[batch]).backward()
            optimizer.step()
    return head.eval()


def blobs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    return Part(centres[labels] + torch.randn(count, 6, generator=generator), labels)


def test_search_on_features_scores_each_candidate_as_alone():
    train, val, start = blobs(40, 2), blobs(20, 3), random_weights(3, 6, 0)
    protocol = Protocol(lrs=(1e-3, 1e-1), l2s=(1e-6, 1e-2, 1.0), epochs=3, final_epochs=2, batch_size=8)
    rule = HeadRule(batch_size=8)
    found = protocol.fit_linear(start, train, val, train, val.features, metric='top1', rule=rule).found
    assert {candidate for candidate, _ in found.visited} == {(lr, l2) for lr in (1e-3, 1e-1) for l2 in (1e-6, 1e-2, 1)}

    def alone(candidate):
        head, best = BatchNormHead(*start), 0.0
        optimizer = torch.optim.SGD(head.linear.parameters(), candidate.lr, momentum=0.9, weight_decay=candidate.l2)
        from clear.evaluation.elevater.heads.head_grid import head_batches

        for epoch in range(3):
            head.train()
            for batch in head_batches(40, 8, 0, epoch):
                optimizer.zero_grad()
                functional.cross_entropy(head(train.features[batch]), train.targets[batch]).backward()
                optimizer.step()
            head.eval()
            best = max(best, (head(val.features).argmax(1) == val.targets).double().mean().item())
        return best

    for candidate, score in found.visited:
        assert score == pytest.approx(alone(candidate))


def test_the_grid_is_no_worse_than_the_search_and_both_than_none():
    train, val, test, start = blobs(60, 4), blobs(30, 5), blobs(30, 6), random_weights(3, 6, 0)
    scores = {}
    for search in ('exact', 'grid'):
        protocol = Protocol(search=search, epochs=2, final_epochs=2, batch_size=16)
        fit = protocol.fit_linear(start, train, val, train, test.features, metric='top1', rule=HeadRule())
        scores[search] = fit.found.score
        assert fit.probabilities.sum(1).tolist() == pytest.approx([1] * 30)
    assert scores['grid'] >= scores['exact'] > 0.5


def test_epoch_is_the_last_or_chosen_on_validation_or_by_legacy_on_test():
    train, val, test, start = blobs(60, 4), blobs(30, 5), blobs(30, 6), random_weights(3, 6, 0)

    def fit(peek=None, **options):
        protocol = Protocol(search='none', lr=0.05, l2=0.0, final_epochs=6, batch_size=16, **options)
        return protocol.fit_linear(start, train, val, train, test.features, metric='top1', rule=HeadRule(), peek=peek)

    def of_epochs(count, rows):
        shown = Protocol(search='none', lr=0.05, l2=0.0, final_epochs=count, batch_size=16).fit_linear(
            start, train, val, train, rows.features, metric='top1', rule=HeadRule())
        return score_probabilities('top1', shown.probabilities, rows.targets)

    assert fit().epoch == 6
    on_val = [of_epochs(count, val) for count in range(1, 7)]
    assert fit(epoch='validation').epoch == 1 + on_val.index(max(on_val))
    on_test = [of_epochs(count, test) for count in range(1, 7)]
    legacy = fit(legacy=True, peek=lambda table: score_probabilities('top1', table, test.targets))
    assert legacy.epoch == 1 + on_test.index(max(on_test))


def test_a_run_that_diverges_says_so(data, encoder):
    with pytest.raises(TrainingError, match='diverged'):
        task(ElevaterLinear, SINGLE, search='none', lr=1e3, l2=1e20, final_epochs=60).run(encoder, data[SINGLE])


def test_merged_projection_learns_in_front_of_it(data, encoder, tmp_path):
    reader, projection = without_projection(encoder)
    assert reader.embed_dim == 32 and projection.shape == (32, 16)
    images = data[SINGLE].images['test']
    pixels = torch.stack([encoder.preprocess.build()(images.open_image(row)) for row in range(4)])
    with torch.no_grad():
        torch.testing.assert_close(reader(pixels) @ projection, encoder(pixels))
    assert reader.fingerprint() != encoder.fingerprint()
    linear = task(ElevaterLinear, SINGLE, merge_projection=True, bank_root=str(tmp_path), seeds=1, **NONE)
    result = linear.run(encoder, data[SINGLE])
    assert result.extras['num_trainable_params'] == 3 * 33
    vectors, _ = linear.class_vectors(encoder, list(COLOURS))
    merged = BatchNormHead(*language_weights(vectors, projection), batch_norm=False)
    with torch.no_grad():
        torch.testing.assert_close(merged(reader(pixels)), encoder(pixels) @ vectors.T)


@pytest.mark.parametrize('two_rates', [False, True])
def test_rates_of_fine_tuning(two_rates, encoder):
    model = FineTuned(encoder, BatchNormHead(*random_weights(3, 16, 0), train_scale=True))
    backbone, head = model.groups(0.1, two_rates)
    assert (backbone['lr'], head['lr']) == pytest.approx((0.01 if two_rates else 0.1, 0.1))
    assert {id(value) for value in head['params']} == {id(value) for value in model.classifier.parameters()}
    trained = {id(value) for value in backbone['params']}
    assert trained == {id(value) for value in model.tower.parameters() if value.requires_grad} and trained
    assert model.num_trainable() == sum(value.numel() for group in (backbone, head) for value in group['params'])


@pytest.mark.parametrize('name', [SINGLE, MULTI])
def test_fine_tuning_trains_a_copy_of_the_image_tower(name, data, encoder):
    before = copy.deepcopy(encoder.state_dict())
    tune = task(ElevaterFineTune, name, shots=2, seeds=[0, 1], search='none', lr=0.05, l2=1e-4, final_epochs=2)
    found = tune.run(encoder, data[name])
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not any(value.requires_grad for value in encoder.parameters())
    assert found.extras['seeds'] == [0, 1] and 0 < found.value <= 1
    assert found.value == pytest.approx(sum(each[METRIC[name]] for each in found.extras['per_seed'].values()) / 2)
    assert found.extras['num_trainable_params'] > 1000
    assert found.value == tune.run(encoder, data[name]).value


def test_fine_tuning_is_a_plain_loop(data, encoder):
    """One epoch of one batch, by hand."""
    tune = task(ElevaterFineTune, SINGLE, shots=-1, search='none', lr=0.05, l2=1e-3, final_epochs=1, two_rates=True)
    found = tune.run(encoder, data[SINGLE])
    images = data[SINGLE].images
    show = encoder.preprocess.build()
    pixels = {split: torch.stack([show(images[split].open_image(row)) for row in range(30)])
              for split in ('train', 'test')}
    weight, bias, *_ = tune.start(encoder, list(COLOURS), 16, 0)
    model = FineTuned(encoder, BatchNormHead(weight, bias)).train()
    optimizer = torch.optim.SGD(model.groups(0.05, True), 0.05, momentum=0.9, weight_decay=1e-3)
    functional.cross_entropy(model(pixels['train']), torch.tensor(images['train'].label_array())).backward()
    optimizer.step()
    with torch.no_grad():
        hits = model.eval()(pixels['test']).argmax(1) == torch.tensor(images['test'].label_array())
    assert found.value == pytest.approx(hits.double().mean().item())


def test_fine_tuning_searches_and_reads_images_again_where_memory_is_short(data, encoder):
    options = dict(shots=3, seeds=1, lrs=[1e-3, 1e-1], l2s=[1e-4, 1e-2], epochs=1, final_epochs=1)
    kept = task(ElevaterFineTune, SINGLE, **options).run(encoder, data[SINGLE])
    read = task(ElevaterFineTune, SINGLE, memory_mb=0, **options).run(encoder, data[SINGLE])
    assert kept.value == read.value
    assert kept.extras['searched'] == read.extras['searched'] and kept.extras['selected']['0']['candidates'] == 4


def test_scale_of_the_towers_is_known(encoder):
    assert pretrained_log_scale(encoder) == pytest.approx(math.log(1 / 0.07))
    assert pretrained_log_scale(image_tower(encoder)) is None


def test_predictions_are_written_for_each_seed(data, encoder, tmp_path):
    task(ElevaterZeroShot, SINGLE, predictions=str(tmp_path)).run(encoder, data[SINGLE])
    task(ElevaterLinear, SINGLE, shots=2, predictions=str(tmp_path), model_name='mine', **NONE).run(
        encoder, data[SINGLE])
    files = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / 'tiny/predictions').rglob('*.json'))
    assert files[:3] == [f'tiny/predictions/linear_probe_2/seed{seed}_{SINGLE}.json' for seed in range(3)]
    written = json.loads((tmp_path / files[0]).read_text())
    assert written['model_name'] == 'mine' and written['n_shot'] == 2 and written['rnd_seeds'] == [0]
    assert torch.tensor(written['predictions']).shape == (1, 30, 3)
    assert written['num_trainable_params'] == 3 * 17
    assert written['num_params'] == written['num_backbone_params'] + 3 * 17 + 1


def test_knowledge_is_appended_to_every_prompt(data, encoder, tmp_path):
    from clear.evaluation.elevater.knowledge import write_gpt3

    write_gpt3(tmp_path, SINGLE, {name: [f'{name} as a rose', 'a colour'] for name in COLOURS})
    zero = task(ElevaterZeroShot, SINGLE, templates=['a {}', 'some {}'],
                knowledge=dict(folder=str(tmp_path), gpt3=2))
    vectors, said = zero.class_vectors(encoder, list(COLOURS))
    texts = [f'{start} red ; red , {text}' for start in ('a', 'some') for text in ('red as a rose', 'a colour')]
    expected = functional.normalize(functional.normalize(encoder.encode_text(texts), dim=1).mean(0), dim=0)
    torch.testing.assert_close(vectors[0], expected)
    before = zero.files_fingerprint()
    write_gpt3(tmp_path, SINGLE, {name: ['nothing'] for name in COLOURS})
    assert zero.files_fingerprint() != before


def test_a_set_without_centre_cut_gets_a_bank_of_whole_images(sets, data, encoder, tmp_path):
    whole = task(ElevaterZeroShot, SINGLE, center_crop=False, bank_root=str(tmp_path))
    images = data[SINGLE].images
    assert 'bank' not in whole.needs and whole.run(encoder, TaskData(images=images)).value == \
        task(ElevaterZeroShot, SINGLE).run(encoder, data[SINGLE]).value  # these images are squares
    assert len(list(tmp_path.iterdir())) == 1
    storage = dict(root=str(tmp_path / 'banks'), dtype='float32')
    task(ElevaterZeroShot, SINGLE, center_crop=False).run(encoder, TaskData(images=images, storage=storage))
    assert FeatureBank.open(*(tmp_path / 'banks').iterdir()).meta['identity']['dtype'] == 'float32'


@pytest.mark.parametrize('options, message', [
    (dict(set='toy'), "none of ELEVATER's"),
    (dict(set='mnist', shots=0), 'ElevaterZeroShot'),
    (dict(set='mnist', search='none'), 'lr and l2'),
    (dict(set='mnist', search='none', lr=0.1, l2=0.0, epoch='validation', legacy=True), 'legacy'),
    (dict(set='mnist', lrs=[0.1, 0.01]), 'ascending'), (dict(set='mnist', lrs=0.1), 'lrs is 0.1; expected a list'),
    (dict(set='mnist', l2s=[0.1, 'x']), 'l2s'),
    (dict(set='mnist', init='zero'), 'init'),
    (dict(set='mnist', init='random', merge_projection=True), 'language'),
    (dict(set='mnist', knowledge=dict(gpt3=5)), 'folder'),
    (dict(set='mnist', knowledge=dict(folder='x', gtp3=5)), 'gtp3'),
    (dict(set='mnist', logit_scale='ln'), 'logit_scale'),
])
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ElevaterLinear(**options)


def test_too_few_images_are_refused(data, encoder):
    with pytest.raises(DataError, match='too few'):
        task(ElevaterLinear, SINGLE, val_fraction=0.99).run(encoder, data[SINGLE])


def test_splits_of_other_classes_are_refused(data, encoder):
    images = {'train': data[SINGLE].images['train'], 'test': data[MULTI].images['test']}
    with pytest.raises(DataError, match='other classes'):
        task(ElevaterLinear, SINGLE).run(encoder, TaskData(bank=data[SINGLE].bank, images=images))


def test_roc_auc_of_more_than_two_classes_is_refused(data, encoder):
    with pytest.raises(DataError, match='has 3 classes; its metric roc_auc is of two'):
        ElevaterZeroShot(set=SINGLE, metric='roc_auc').run(encoder, data[SINGLE])


def test_the_recipe_has_every_set_in_every_mode():
    from clear.core.config import load_config
    from clear.engine.probing.keys import check_probe_config, with_defaults

    cfg = with_defaults(load_config(CONFIGS / 'evaluation' / 'elevater.py')[0])
    pytest.importorskip('clip_benchmark', reason='the recipe takes its templates from clip-benchmark')
    check_probe_config(cfg)
    sets = [each['set'] for each in cfg['tasks'] if each['type'] == 'ElevaterZeroShot']
    assert tuple(sorted(sets)) == tuple(sorted(AVERAGED))
    modes = {name.removeprefix(f"{each['set']}-") for each in cfg['tasks'] for name in [each['name']]}
    shots = ('5', '20', '50', 'full')
    assert modes == {'zero_shot', *(f'linear_{each}' for each in shots), *(f'fine_tune_{each}' for each in shots),
                     *(f'fine_tune_{each}_two_rates' for each in shots)} and len(cfg['tasks']) == 20 * len(modes)
    for each in cfg['tasks']:
        assert [*each['data']] == (['test'] if each['type'] == 'ElevaterZeroShot' else ['train', 'test'])
        assert each['name'].endswith('_two_rates') == each.get('two_rates', False)
        assert each['type'] == 'ElevaterZeroShot' or str(each['shots']).replace('-1', 'full') in each['name'].split('_')
