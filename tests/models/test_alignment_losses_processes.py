"""Losses of alignment in two gloo processes: against one with the whole batch, and against open_clip's classes.

`WORLD` processes average their gradients, so what each holds is divided by `WORLD` where it is compared.
"""

import pytest
import torch
import torch.nn.functional as F
from ranks import run_ranks
from test_losses_contrastive import unit

from clear.models.losses import (
    BarlowTwinsLoss,
    CompRessLoss,
    CrossModalDINOLoss,
    FeatureDistillationLoss,
    InfoNCELoss,
    LogitDistillationLoss,
    PromptedCrossEntropyLoss,
    ProtoCPCLoss,
    ProtoLoss,
    RKDLoss,
    SEEDLoss,
    SigLIPLoss,
    SimCSELoss,
    SimRegLoss,
    UniCLLoss,
    VICRegLoss,
)
from clear.models.losses.pair_loss import PairLoss
from clear.registry import MODELS

WORLD, ROWS, DIM = 2, 6, 5
LABELS = torch.tensor([0, 3, 0, -1, 3, 0])
CLASSES = LABELS.clamp_min(0)
SIGLIP_WAYS = ('bidir', 'shift', 'reduce', 'gather')
SETTINGS = [(local_loss, with_grad) for local_loss in (False, True) for with_grad in (False, True)]


def seeded(make):
    torch.manual_seed(0)
    return make().double()


# Name: a loss, given its options; in its default form without.
CASES = {
    'info_nce': InfoNCELoss, 'info_nce_global': lambda **options: InfoNCELoss(local_loss=False, **options),
    'unicl': UniCLLoss, 'unicl_global': lambda **options: UniCLLoss(local_loss=False, **options), 'siglip': SigLIPLoss,
    'cross_entropy': PromptedCrossEntropyLoss, 'simreg': SimRegLoss, 'rkd': RKDLoss,
    'compress_one': lambda **options: CompRessLoss(1, DIM, 7, 0.3, **options),
    'compress': lambda **options: CompRessLoss(2, DIM, 7, 0.3, **options),
    'seed': lambda **options: SEEDLoss(DIM, 7, 0.2, 0.3, **options),
    'dino': lambda **options: CrossModalDINOLoss(DIM, **options),
    'proto_cpc': lambda **options: ProtoCPCLoss(DIM, **options),
    'proto_cpc_sinkhorn': lambda **options: ProtoCPCLoss(DIM, 'sinkhorn', **options),
    'vicreg': VICRegLoss, 'barlow': lambda **options: BarlowTwinsLoss(0.02, **options),
    'simcse': lambda **options: SimCSELoss(4.0, **options), 'proto': lambda **options: ProtoLoss(0.5, **options),
    'proto_hard': ProtoLoss, 'features': FeatureDistillationLoss, 'logits': LogitDistillationLoss,
}
# The mean over processes does not need to know that they hold different numbers of rows.
UNEQUAL = ['cross_entropy', 'simreg', 'dino', 'proto_cpc', 'proto', 'proto_hard', 'features', 'vicreg', 'barlow']
# Without `gather` and without state these average to the same: nothing of one row depends on another's.
ROW_BY_ROW = {'cross_entropy', 'simreg', 'features'}


def batch(seed):
    return 2 * unit(ROWS, DIM, seed=seed) + 0.1


def compare(loss, towers, rows):
    teacher, student = towers
    if isinstance(loss, PairLoss):
        labels = (CLASSES if isinstance(loss, PromptedCrossEntropyLoss) else LABELS)[rows]
        return loss(teacher, student, logit_scale=5.0, logit_bias=-2.0, labels=labels)
    if isinstance(loss, ProtoLoss):
        return loss(student, unit(4, DIM, seed=70), unit(4, 3, seed=71), LABELS[rows]) + 0 * teacher.sum()
    before = [unit(ROWS, DIM, seed=80 + index)[rows] for index in range(2)]
    return loss(before, [teacher, student])


def run(name, rows, **options):
    """Three steps on some rows of the batch, so that state takes part: losses, gradients of the last, state."""
    loss, losses = seeded(lambda: CASES[name](**options)), []
    for step in range(3):
        towers = [batch(10 * step + index)[rows].clone().requires_grad_() for index in (0, 1)]
        value = compare(loss, towers, rows)
        losses.append(value.detach())
    grads = torch.autograd.grad(value, towers, allow_unused=True, materialize_grads=True)
    return dict(losses=torch.stack(losses), grads=grads, state=loss.state_dict())


def contrast(rows, make):
    """A loss, given (text, image, scale): its value and its gradients."""
    towers = [batch(index)[rows].clone().requires_grad_() for index in range(2)]
    numbers = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (7.0, -3.0)]
    value = make(*towers, *numbers)
    grads = torch.autograd.grad(value, [*towers, *numbers], allow_unused=True, materialize_grads=True)
    return dict(value=value.detach(), grads=grads)


def normal(tower):
    return F.normalize(tower, dim=1)


def by_open_clip(rank, rows):
    from open_clip.loss import ClipLoss, SigLipLoss

    found = {}
    for setting in SETTINGS:
        theirs = ClipLoss(*setting, rank=rank, world_size=WORLD)
        found['ClipLoss', setting] = contrast(
            rows, lambda text, image, scale, bias, theirs=theirs: theirs(normal(image), normal(text), scale))
        for kind in (InfoNCELoss, UniCLLoss):
            ours = kind(local_loss=setting[0], gather_with_grad=setting[1])
            found[kind.__name__, setting] = contrast(
                rows, lambda text, image, scale, bias, ours=ours: ours(text, image, logit_scale=scale))
        legacy = InfoNCELoss(local_loss=setting[0], gather_with_grad=setting[1], legacy=True)
        found['legacy', setting] = contrast(
            rows, lambda text, image, scale, bias, legacy=legacy: legacy(text, image, logit_scale=scale))
    for way in SIGLIP_WAYS:
        theirs = SigLipLoss(rank=rank, world_size=WORLD, dist_impl=way)
        found['SigLipLoss', way] = contrast(
            rows, lambda text, image, *numbers, theirs=theirs: theirs(normal(image), normal(text), *numbers))
    ours = SigLIPLoss()
    found['SigLIPLoss'] = contrast(
        rows, lambda text, image, scale, bias: ours(text, image, logit_scale=scale, logit_bias=bias))
    return found


def too_small_a_queue():
    messages = []
    for loss in (SEEDLoss(DIM, 5), CompRessLoss(1, DIM, 5)):
        try:
            loss(torch.ones(3, DIM), torch.ones(3, DIM))
        except ValueError as error:
            messages.append(str(error))
    return messages


def work(rank):
    rows = slice(3 * rank, 3 * rank + 3)
    found = {('equal', name): run(name, rows) for name in CASES}
    found.update({('local', name): run(name, rows, gather=False) for name in CASES if 'global' not in name})
    rows_of = [slice(0, 4), slice(4, ROWS)][rank]
    found.update({('unequal', name): run(name, rows_of) for name in UNEQUAL})
    found['barlow_legacy'] = run('barlow', rows, legacy=True)
    return {**found, **by_open_clip(rank, rows), 'too_small': too_small_a_queue()}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What every rank got in every case."""
    from open_clip import loss  # noqa: F401  (once here, not once in every process)

    return run_ranks(work, WORLD, tmp_path_factory.mktemp('ranks'))


def test_every_loss_is_compared():
    ours = {kind for kind in MODELS.module_dict.values() if kind.__module__.startswith('clear.models.losses.')
            and ('.alignment.' in kind.__module__ or isinstance(kind, type) and issubclass(kind, PairLoss))}
    assert ours == {type(make()) for make in CASES.values()} and len(ours) >= 16


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('kind, name', [*(('equal', name) for name in CASES), *(('unequal', name) for name in UNEQUAL)])
def test_processes_equal_the_whole_batch(results, kind, name):
    whole, parts = run(name, slice(0, ROWS)), [result[kind, name] for result in results]
    close(torch.stack([part['losses'] for part in parts]).mean(0), whole['losses'])
    for index, expected in enumerate(whole['grads']):
        close(torch.cat([part['grads'][index] for part in parts]) / WORLD, expected)
    for key, expected in whole['state'].items():
        close(parts[0]['state'][key], expected)
        assert torch.equal(parts[0]['state'][key], parts[1]['state'][key]), 'equal on every rank'


@pytest.mark.parametrize('name', [name for name in CASES if 'global' not in name])
def test_without_gather_each_process_is_alone(results, name):
    mean = 0
    for rank in range(WORLD):
        alone, found = run(name, slice(3 * rank, 3 * rank + 3)), results[rank]['local', name]
        mean = mean + found['losses'] / WORLD
        close(found['losses'], alone['losses'])
        for one, other in zip((*found['grads'], *found['state'].values()), (*alone['grads'], *alone['state'].values())):
            close(one, other)
    whole = run(name, slice(0, ROWS))
    assert torch.allclose(mean, whole['losses'], atol=1e-6) == (name in ROW_BY_ROW), 'the global batch must matter'


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('kind', ['InfoNCELoss', 'UniCLLoss'])
def test_all_four_ways_of_gathering_are_open_clips(results, kind, setting):
    for result in results:
        close(result[kind, setting]['value'], result['ClipLoss', setting]['value'])
        for one, other in zip(result[kind, setting]['grads'], result['ClipLoss', setting]['grads']):
            close(one, other)


def averaged(results, key):
    """What processes hold of the gradient of text and image once they have averaged it, and of the scale."""
    grads = [result[key]['grads'] for result in results]
    towers = [torch.cat([each[index] for each in grads]) / WORLD for index in (0, 1)]
    return torch.cat(towers), sum(each[2] for each in grads) / WORLD


def test_what_the_four_ways_do_to_the_gradient(results):
    """1, 1, 1 / W and another direction, as the docstring of `Gathering` says; the scale's is right in all."""
    whole = contrast(slice(0, ROWS), lambda text, image, scale, bias: InfoNCELoss()(text, image, logit_scale=scale))
    expected = torch.cat(whole['grads'][:2])
    for local_loss, with_grad in SETTINGS:
        towers, scale = averaged(results, ('InfoNCELoss', (local_loss, with_grad)))
        close(scale, whole['grads'][2])
        cosine = F.cosine_similarity(towers.flatten(), expected.flatten(), dim=0)
        if with_grad:
            close(towers, expected)
        elif not local_loss:
            close(towers, expected / WORLD)
        else:
            assert 0.5 < cosine < 0.999


def test_legacy_gathers_as_itra_does(results):
    for rank, result in enumerate(results):
        whole = contrast(slice(0, ROWS), lambda text, image, scale, bias: InfoNCELoss()(text, image, logit_scale=scale))
        for setting in SETTINGS:
            close(result['legacy', setting]['value'], whole['value'])
        for setting in ((False, False), (False, True)):
            for one, other in zip(result['legacy', setting]['grads'], result['InfoNCELoss', setting]['grads']):
                close(one, other)
        assert not any(grad.any() for grad in result['legacy', (True, False)]['grads'][:2])
        rows = slice(3 * rank, 3 * rank + 3)
        for one, other in zip(result['legacy', (True, True)]['grads'][:2], whole['grads'][:2]):
            close(one, WORLD * other[rows])


@pytest.mark.parametrize('way', SIGLIP_WAYS)
def test_siglip_is_open_clips(results, way):
    """However they pass features on (L18): towers, scale and bias; and both are one process with the whole batch."""
    for result in results:
        close(result['SigLIPLoss']['value'], result['SigLipLoss', way]['value'])
        for one, other in zip(result['SigLIPLoss']['grads'], result['SigLipLoss', way]['grads']):
            close(one, other)
    whole = contrast(slice(0, ROWS), lambda text, image, scale, bias: SigLIPLoss()(
        text, image, logit_scale=scale, logit_bias=bias))
    grads = [result['SigLipLoss', way]['grads'] for result in results]
    for index, expected in enumerate(whole['grads']):
        parts = [each[index] for each in grads]
        close(sum(parts) / WORLD if expected.ndim == 0 else torch.cat(parts) / WORLD, expected)


def test_barlow_twins_in_legacy_sums_what_each_process_normalised(results):
    correlation = 0
    for rows in (slice(0, 3), slice(3, 6)):
        sides = [F.normalize(normal(batch(20 + index)[rows]), dim=0) for index in (0, 1)]
        correlation = correlation + sides[0].T @ sides[1] / 3
    weights = torch.full((DIM, DIM), 0.02, dtype=torch.float64).fill_diagonal_(1)
    expected = ((correlation - torch.eye(DIM)) ** 2 * weights).sum()
    for result in results:
        close(result['barlow_legacy']['losses'][-1], expected)


def test_a_queue_must_hold_the_rows_of_all_processes(results):
    for result in results:
        assert len(result['too_small']) == 2
        assert all('(5) is smaller than the global batch (2 x 3 = 6)' in text for text in result['too_small'])
