"""What a method does is what its paper says, against plain PyTorch, where Avalanche 0.6 does something else."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from avalanche.training import ACECriterion as AvalancheACECriterion
from avalanche.training.losses import MaskedCrossEntropy as AvalancheMaskedCrossEntropy
from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin
from toy_streams import (
    DIM,
    MEMORY,
    built,
    class_stream,
    domain_stream,
    labelled_stream,
    model,
    plugin_of,
    train,
    watched,
)

from clear.continual.repairs import BiCPlugin
from clear.continual.repairs.losses import ACECriterion, MaskedCrossEntropy
from clear.core.errors import ConfigError
from clear.models import build_classifier

# LwF


def divergence(teacher, student, x, classes, temperature):
    p, q = ((net.eval()(x)[:, classes].double() / temperature).softmax(1) for net in (teacher, student))
    return (p * (p / q).log()).sum(1).mean().item()


@pytest.mark.parametrize('legacy', [False, True])
def test_lwf_holds_all_classes_seen_so_far(legacy):
    """In the third bucket too, where a bucket has a task label of its own: the model has one head for all."""
    strategy = built('LwF', dict(alpha=2.0, temperature=2.0, legacy=legacy), model('linear', num_classes=6))
    seen = watched(strategy, labelled_stream(3).train_stream)
    for experience, classes in ((1, [0, 1]), (2, [0, 1, 2, 3])):
        steps = [step for step in seen if step['experience'] == experience]
        for step in steps:
            expected = 2.0 * divergence(steps[0]['net'], step['net'], step['x'], classes, 2.0)
            assert step['penalty'] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert steps[-1]['penalty'] > 0


def test_lwf_holds_a_class_of_the_second_bucket():
    strategy = built('LwF', dict(alpha=1.0, temperature=2.0), model('linear', num_classes=6))
    train(strategy, list(labelled_stream(3).train_stream)[:2])
    lwf = plugin_of(strategy, 'LwFPlugin').lwf
    x = torch.randn(5, DIM)
    logits = lwf.prev_model(x).detach()
    assert lwf(x, logits, strategy.model).item() == pytest.approx(0, abs=1e-6)
    for label in range(6):
        raised = logits.clone()
        raised[:, label] += 5
        assert (lwf(x, raised, strategy.model).item() > 0.01) == (label < 4), label


# Synaptic Intelligence


def si_by_hand(net, batches, *, c, xi, lr, momentum):
    """Zenke et al. 2017, equations 4 and 5, in plain PyTorch; importances clamped at 0, normalisation left out."""
    held = {name: value for name, value in net.named_parameters() if 'bn' not in name and 'norm' not in name}
    omega = {name: torch.zeros_like(value) for name, value in held.items()}
    total, anchor = copy.deepcopy(omega), None
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    for experience in batches:
        start = {name: value.detach().clone() for name, value in held.items()}
        path = {name: torch.zeros_like(value) for name, value in held.items()}
        for x, y in experience:
            loss = F.cross_entropy(net(x), y)
            slopes = dict(zip(held, torch.autograd.grad(loss, list(held.values()), retain_graph=True,
                                                        allow_unused=True)))
            if anchor is not None:
                loss = loss + c * sum((omega[name] * (held[name] - anchor[name]) ** 2).sum() for name in held)
            optimizer.zero_grad()
            loss.backward()
            before = {name: value.detach().clone() for name, value in held.items()}
            optimizer.step()
            for name, slope in slopes.items():
                if slope is not None:
                    path[name] -= slope * (held[name].detach() - before[name])
        anchor = {name: value.detach().clone() for name, value in held.items()}
        for name in held:
            total[name] += path[name] / ((anchor[name] - start[name]) ** 2 + xi)
            omega[name] = total[name].clamp(min=0)
    return omega


def normed():
    """A hidden layer with BatchNorm, and a parameter that no sample reaches."""
    net = build_classifier(dict(head=dict(type='StackedLinearClsHead', num_classes=4, in_channels=DIM,
                                          mid_channels=[16], norm_cfg=dict(type='BN1d'))))
    net.spare = torch.nn.Parameter(torch.ones(3))
    return net


@pytest.mark.parametrize('options, xi', [(dict(), 0.1), (dict(eps=1e-3), 1e-3)])
def test_si_is_plain_pytorch(options, xi):
    torch.manual_seed(0)
    net = normed()
    expected = copy.deepcopy(net)
    strategy = built('SynapticIntelligence', dict(si_lambda=0.7, optimizer=dict(type='SGD', lr=0.05), **options), net)
    batches = [[] for _ in range(3)]
    train(strategy, domain_stream(3).train_stream,
          lambda running: batches[running.clock.train_exp_counter].append((running.mb_x.clone(), running.mb_y.clone())))
    omega = si_by_hand(expected.train(), batches, c=0.7, xi=xi, lr=0.05, momentum=0.0)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(strategy.model.state_dict()[name], value, rtol=1e-6, atol=1e-6, msg=name)
    importance = plugin_of(strategy, 'SynapticIntelligencePlugin').ewc_data[1]
    assert importance.keys() == omega.keys() and len(omega) == 5
    for name, value in omega.items():
        torch.testing.assert_close(importance[name].data, value.flatten(), rtol=1e-3, atol=1e-5, msg=name)
    used = torch.cat([item.data for name, item in importance.items() if name != 'spare'])
    assert (importance['spare'].data == 0).all() and used.max() > 10 * used.median() > 0


class CutPlugin(SynapticIntelligencePlugin):
    """Avalanche's arithmetic, with memory of its own for old and new weights, as AR1 always had it."""

    def before_training_exp(self, strategy, **kwargs):
        super().before_training_exp(strategy, **kwargs)
        self.own(self.ewc_data[0])

    def before_training_iteration(self, strategy, **kwargs):
        super().before_training_iteration(strategy, **kwargs)
        self.own(self.syn_data['old_theta'])

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        for importance in self.ewc_data[1].values():
            importance.data = importance.data.clamp(min=0)

    @staticmethod
    def own(params):
        for param in params.values():
            param.data = param.data.clone()


def test_ar1_keeps_its_synaptic_intelligence():
    """Importances cut at 0.001 and xi 1e-7 (Maltoni and Lomonaco 2019), bit for bit."""
    nets = []
    for kind in ('ours', 'theirs'):
        strategy = built('AR1', dict(rm_sz=10, ewc_lambda=3000.0, optimizer=dict(type='SGD', lr=1e-3)))
        plugin = plugin_of(strategy, 'SynapticIntelligencePlugin')
        if kind == 'theirs':
            theirs = CutPlugin(3000.0, 1e-7, list(plugin.excluded_parameters))
            strategy.plugins[strategy.plugins.index(plugin)] = plugin = theirs
        train(strategy, domain_stream(3).train_stream)
        nets.append(strategy.model)
        importance = torch.cat([item.data for item in plugin.ewc_data[1].values()])
        assert 0 < (importance < 0.001).sum() < len(importance) and importance.max() == torch.tensor(0.001)
    assert all(torch.equal(*pair) for pair in zip(nets[0].parameters(), nets[1].parameters()))


# What is frozen


def buffers_of(net):
    return {name: value.clone() for name, value in net.named_buffers()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize('importance', ['sample', 'batch'])
def test_mas_measures_without_moving_anything(importance):
    strategy = built('MAS', dict(importance=importance), model('noisy'))
    plugin, kept = plugin_of(strategy, 'MASPlugin'), []
    inner = plugin._get_importance

    def spied(running):
        before = buffers_of(running.model)
        found = inner(running)
        kept.append((before, buffers_of(running.model), [module.training for module in running.model.modules()]))
        return found

    plugin._get_importance = spied
    train(strategy, domain_stream(2).train_stream)
    assert [same(before, after) for before, after, _ in kept] == [importance == 'sample'] * 2
    assert all(all(modes) for _, _, modes in kept)  # and back in train mode


@pytest.mark.parametrize('options', [dict(), dict(legacy=True), dict(freeze_remaining_model=False)])
def test_cwr_star_freezes_statistics_with_their_weights(options):
    strategy = built('CWRStar', options, model('noisy'))
    stream, last = list(domain_stream(3).train_stream), {'head.layers.1.fc.weight', 'head.layers.1.fc.bias'}
    train(strategy, stream[:1])
    for experience in stream[1:]:
        before = copy.deepcopy(strategy.model.state_dict())
        train(strategy, [experience])
        after = strategy.model.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert last <= moved
        moved -= last
        if options.get('freeze_remaining_model', True):
            assert bool(moved) == bool(options) and all('running' in name or 'num_b' in name for name in moved)
        else:
            assert any(name.endswith('weight') for name in moved)


@pytest.mark.parametrize('legacy', [False, True])
def test_icarls_teacher_is_the_network_before_the_update(legacy):
    strategy = built('ICaRL', dict(memory_size=8, legacy=legacy), model('noisy', num_classes=6))
    stream = list(class_stream(3).train_stream)
    train(strategy, stream[:1])
    for experience in stream[1:]:
        teacher = strategy._criterion.old_model
        before = buffers_of(teacher)
        kept = []
        train(strategy, [experience], lambda _, teacher=teacher, before=before, kept=kept: kept.append(
            (teacher.training, same(buffers_of(teacher), before))))
        assert len(kept) == 8 and set(kept) == {(legacy, not legacy)}


# Losses


@pytest.mark.parametrize('temperature', [2, 5])
def test_bic_distils_a_softmax_over_old_classes(temperature):
    torch.manual_seed(0)
    new, old = 3 * torch.randn(7, 4), 3 * torch.randn(7, 4)
    expected = 0.0
    for new_row, old_row in zip((new / temperature).double().tolist(), (old / temperature).double().tolist()):
        new_sum, old_sum = (sum(map(math.exp, row)) for row in (new_row, old_row))
        expected -= sum(math.exp(b) / old_sum * (a - math.log(new_sum)) for a, b in zip(new_row, old_row)) / 7
    assert BiCPlugin(T=temperature).cross_entropy(new, old).item() == pytest.approx(expected, rel=1e-5)
    legacy = BiCPlugin(T=temperature, legacy=True).cross_entropy(new, old).item()
    assert legacy == BiCPlugin(T=2, legacy=True).cross_entropy(new, old).item() != pytest.approx(expected, rel=0.1)


def test_bic_takes_its_temperature_from_the_config():
    strategies = [built('BiC', dict(mem_size=20, stage_2_epochs=2, **options))
                  for options in (dict(T=5), dict(T=5, legacy=True))]
    plugins = [plugin_of(strategy, 'BiCPlugin') for strategy in strategies]
    assert [(plugin.T, plugin.legacy) for plugin in plugins] == [(5, False), (5, True)]


@pytest.mark.parametrize('weight', [1.0, 3.0])
@pytest.mark.parametrize('alpha', [0.0, 0.5])
def test_der_weighs_both_cross_entropies_by_its_criterion(weight, alpha):
    loss = dict(type='CrossEntropyLoss', loss_weight=weight)
    strategy = built('DER', dict(**MEMORY, alpha=alpha, beta=0.25, loss=loss))
    seen = []

    def note(running):
        output, size = running.mb_output.detach(), len(running.batch_logits) if running.replay_loader else 0
        plain = F.cross_entropy(output[size:], running.mb_y[size:])
        held = 0.25 * F.cross_entropy(output[:size], running.mb_y[:size]) if size else 0
        logits = alpha * F.mse_loss(output[:size], running.batch_logits) if size else 0
        seen.append((size, running.loss.item(), float(weight * (plain + held) + logits)))

    train(strategy, domain_stream(3).train_stream, note)
    assert {size for size, *_ in seen} == {0, 4}
    for _, found, expected in seen:
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('kind', ['ER_ACE', 'ER_AML'])
def test_a_method_with_its_own_loss_refuses_another(kind):
    with pytest.raises(ConfigError, match=f'{kind} is defined by its own loss; leave this key out'):
        built(kind, dict(**MEMORY, loss=dict(type='CrossEntropyLoss', loss_weight=3.0)))


def test_soft_cross_entropies_are_avalanches_and_finite_far_apart():
    torch.manual_seed(0)
    logits, targets, memory = torch.randn(6, 5), torch.tensor([3, 1, 3, 1, 4, 4]), torch.randn(4, 5)
    args = (logits, targets, memory, torch.tensor([0, 1, 2, 3]))
    assert ACECriterion()(*args).item() == pytest.approx(AvalancheACECriterion()(*args).item(), rel=1e-5)
    for mask in ('seen', 'new', 'old', 'all'):
        found = []
        for cls in (MaskedCrossEntropy, AvalancheMaskedCrossEntropy):
            loss = cls(classes=[1, 3], mask=mask)
            loss._adaptation([4])
            found.append(loss(logits, targets).item())
        assert found[0] == pytest.approx(found[1], rel=1e-5)
    far = torch.zeros(6, 5).scatter(1, targets[:, None], 200.0)
    assert ACECriterion()(far, targets, far, targets).item() == 0
    assert MaskedCrossEntropy(mask='all')(far, targets).item() == 0
    assert math.isnan(AvalancheACECriterion()(far, targets, far, targets).item())


def test_er_ace_ends_where_logits_lie_far_apart():
    stream = domain_stream(2)
    strategy = built('ER_ACE', dict(**MEMORY, optimizer=dict(type='SGD', lr=100.0)), model('linear'))
    losses = train(strategy, stream.train_stream)
    assert max(losses) > 100 and all(math.isfinite(loss) for loss in losses)
