"""What every loss of alignment keeps: building by name, float32 inside autocast, gradients, state, clear refusals."""

import ast
import copy
import inspect
import io
import re
from pathlib import Path

import pytest
import torch
from test_losses_contrastive import leaf, unit

from clear.models import losses
from clear.models.losses.pair_loss import PairLoss
from clear.registry import MODELS

# Name: arguments. All take a pair of (6, 8), and labels.
PAIRS = {
    'InfoNCELoss': {}, 'UniCLLoss': {}, 'PromptedCrossEntropyLoss': {}, 'SigLIPLoss': {}, 'SimRegLoss': {},
    'RKDLoss': {}, 'CompRessLoss': dict(num_queues=2, embed_dim=8, queue_size=9),
    'SEEDLoss': dict(embed_dim=8, queue_size=9, teacher_temp=0.07), 'CrossModalDINOLoss': dict(out_dim=8),
    'ProtoCPCLoss': dict(out_dim=8), 'VICRegLoss': {}, 'BarlowTwinsLoss': {}, 'SimCSELoss': {},
}
WITH_STATE = {'CompRessLoss', 'SEEDLoss', 'CrossModalDINOLoss', 'ProtoCPCLoss'}
DOCS = Path(__file__).parents[2] / 'docs' / 'alignment.md'
LABELS = torch.tensor([0, 1, 1, 7, 0, 5])


def build(name, **options):
    torch.manual_seed(0)
    return MODELS.build(dict(type=name, **{**PAIRS[name], **options}))


def pair(dtype=torch.float64, seed=0):
    return [leaf(2 * unit(6, 8, seed=seed + index).to(dtype) + 0.1) for index in range(2)]


def call(loss, teacher, student, **options):
    return loss(teacher, student, **{'logit_scale': 7.0, 'logit_bias': -1.0, 'labels': LABELS, **options})


def test_every_loss_is_here():
    others = {'FeatureDistillationLoss', 'LogitDistillationLoss', 'ProtoLoss'}
    of_alignment = {name for name in losses.__all__ if '.alignment.' in getattr(losses, name).__module__}
    assert set(PAIRS) - {'VICRegLoss', 'BarlowTwinsLoss'} == of_alignment - others
    assert all(issubclass(getattr(losses, name), PairLoss) for name in PAIRS)
    assert all(MODELS.get(name) is getattr(losses, name) for name in losses.__all__)


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('legacy', [False, True])
def test_one_call_for_all_gives_a_scalar_with_finite_gradients(name, legacy):
    teacher, student = pair(torch.float32)
    loss = build(name, legacy=legacy)
    value = call(loss, teacher, student)
    assert value.shape == () and value.dtype == torch.float32 and not list(loss.parameters())
    grads = torch.autograd.grad(value, [teacher, student])
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize('name', PAIRS)
def test_inside_autocast_it_is_what_it_is_in_float32(name):
    half = pair(torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = call(build(name), *half)
    assert value.dtype == torch.float32
    assert torch.equal(value, call(build(name), *(tower.detach().float() for tower in half)))
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(value, half))


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('legacy', [False, True])
def test_gradients_are_those_of_finite_differences(name, legacy):
    loss = build(name, legacy=legacy).double().eval()
    towers = pair()
    numbers = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (3.0, -0.5)]
    assert torch.autograd.gradcheck(
        lambda *all_: call(loss, *all_[:2], logit_scale=all_[2], logit_bias=all_[3]) + 0 * all_[2] + 0 * all_[3],
        [*towers, *numbers])


@pytest.mark.parametrize('name', PAIRS)
def test_a_detached_teacher_gets_no_gradient_and_changes_nothing_else(name):
    teacher, student = pair()
    plain, detached = build(name).double(), build(name, detach_teacher=True).double()
    expected, found = call(plain, teacher, student), call(detached, teacher, student)
    assert torch.equal(found, expected)
    assert torch.autograd.grad(found, teacher, allow_unused=True, retain_graph=True) == (None,)
    torch.testing.assert_close(torch.autograd.grad(found, student), torch.autograd.grad(expected, student))


@pytest.mark.parametrize('name', PAIRS)
def test_without_gradients_the_value_is_the_same(name):
    expected = call(build(name).double(), *pair())
    with torch.no_grad():
        assert torch.equal(call(build(name).double(), *pair()), expected)


@pytest.mark.parametrize('name', PAIRS)
def test_rows_do_not_know_their_order(name):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = call(build(name).double(), *pair())
    teacher, student = (tower[order] for tower in pair())
    torch.testing.assert_close(call(build(name).double(), teacher, student, labels=LABELS[order]), expected,
                               rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('name', ['InfoNCELoss', 'UniCLLoss', 'SigLIPLoss'])
def test_the_scale_has_one_default_and_the_logarithm_in_legacy(name):
    towers = pair()
    assert torch.equal(build(name)(*towers), build(name)(*towers, logit_scale=1 / 0.07))
    logarithm = torch.tensor([2.659], dtype=torch.float64)
    assert torch.equal(build(name, legacy=True)(*towers), build(name)(*towers, logit_scale=logarithm))
    assert getattr(losses, name).uses_logit_scale


def test_what_they_need_is_said_by_the_classes():
    said = {attribute: {name for name in PAIRS if getattr(getattr(losses, name), attribute)}
            for attribute in ('uses_logit_scale', 'uses_logit_bias', 'needs_labels', 'needs_prototypes')}
    assert said == dict(uses_logit_scale={'InfoNCELoss', 'UniCLLoss', 'SigLIPLoss'}, uses_logit_bias={'SigLIPLoss'},
                        needs_labels={'PromptedCrossEntropyLoss'},
                        needs_prototypes={'CrossModalDINOLoss', 'ProtoCPCLoss'})
    assert {name for name in PAIRS if not build(name).needs_equal_width} == {'RKDLoss', 'CompRessLoss'}
    assert build('CompRessLoss', num_queues=1).needs_equal_width


@pytest.mark.parametrize('name', sorted(WITH_STATE))
def test_state_survives_saving_and_moves_in_training_only(name):
    loss = build(name)
    for seed in (0, 2):
        call(loss, *pair(torch.float32, seed))
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    again = build(name)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(call(again, *pair(torch.float32, 4)), call(loss, *pair(torch.float32, 4)))
    assert all(torch.equal(one, other) for one, other in zip(again.buffers(), loss.buffers()))
    before = copy.deepcopy(loss.state_dict())
    call(loss.eval(), *pair(torch.float32, 6))
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())
    call(loss.train(), *pair(torch.float32, 6))
    assert any(not torch.equal(value, before[key]) for key, value in loss.state_dict().items())
    assert not any(buffer.requires_grad for buffer in loss.buffers())


@pytest.mark.parametrize('name', sorted(set(PAIRS) - WITH_STATE))
def test_the_others_have_no_state(name):
    assert not build(name).state_dict()


@pytest.mark.parametrize('name', PAIRS)
def test_shapes_that_do_not_fit_are_named(name):
    loss, (teacher, student) = build(name).double(), pair()
    with pytest.raises(ValueError, match=rf'{name}: expected matrices .* \(6, 8\), .* \(5, 8\)'):
        call(loss, teacher, student[:5])
    with pytest.raises(ValueError, match=rf'{name}: expected matrices .* \(0, 8\)'):
        call(loss, teacher[:0], student[:0], labels=LABELS[:0])
    if name != 'RKDLoss':
        with pytest.raises(ValueError, match=rf'{name}: .*(\(6, 7\)|has 7 columns)'):
            call(loss, teacher, student[:, :7])
    with pytest.raises(ValueError, match=rf'{name}: labels are \(5,\) torch.int64, expected \(6,\) integers'):
        call(loss, teacher, student, labels=LABELS[:5])
    with pytest.raises(ValueError, match='logit_scale has 2 values'):
        call(loss, teacher, student, logit_scale=torch.ones(2))


@pytest.mark.parametrize('name', PAIRS)
def test_what_fits_is_known_before_the_first_step(name):
    loss = build(name)
    assert loss.check_fit(6, 8, 8) is None
    if name != 'RKDLoss':
        with pytest.raises(ValueError, match=name):
            loss.check_fit(6, 8, 7)
    if name in WITH_STATE:
        with pytest.raises(ValueError, match='columns'):
            loss.check_fit(6, 9, 9)
    if name in ('SEEDLoss', 'CompRessLoss'):
        with pytest.raises(ValueError, match=r'queue_size \(9\) is smaller than the global batch \(1 x 10 = 10\)'):
            loss.check_fit(10, 8, 8)


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize('flag', ['gather', 'detach_teacher', 'legacy'])
def test_flags_are_true_or_false(name, flag):
    with pytest.raises(ValueError, match=f"{name}: {flag} is 'yes'; expected True or False"):
        build(name, **{flag: 'yes'})


def test_docs_have_every_loss_with_its_defaults():
    rows = {found[1]: found[2] for line in DOCS.read_text().splitlines()
            if (found := re.match(r'\| `(\w+Loss)` \|(.*)', line))}
    of_alignment = {name for name in losses.__all__ if '.alignment.' in getattr(losses, name).__module__}
    assert set(rows) == of_alignment | {'VICRegLoss', 'BarlowTwinsLoss'}
    for name, text in rows.items():
        defaults = {key: each.default for key, each in inspect.signature(getattr(losses, name)).parameters.items()}
        said = {key: ast.literal_eval(value) for key, value in re.findall(r'`(\w+)=([^`]+)`', text)}
        assert said == {key: defaults[key] for key in said}
        common = {'gather', 'local_loss', 'gather_with_grad', 'detach_teacher', 'legacy', 'eps', 'student_dim',
                  'sinkhorn_iterations'}
        assert set(defaults) - common - set(said) <= {'logit_scale'}, f'{name}: an argument is not in the table'
