"""What was wrong in Avalanche 0.6's strategies that change the network, and is not any more."""

import pytest
import torch
from avalanche.training.plugins import CWRStarPlugin as AvalancheCWRStarPlugin
from avalanche.training.supervised import Naive
from toy_streams import (
    DOMAIN,
    built,
    class_stream,
    domain_stream,
    model,
    plugin_of,
    tensors_of,
    train,
)

from clear.continual.repairs.architectural.networks import Autoencoder
from clear.core.errors import ConfigError


def test_cwr_star_equals_avalanches_plugin_bit_for_bit():
    stream, nets = domain_stream(3), []
    for kind in ('ours', 'theirs'):
        net = model('linear')
        torch.manual_seed(3)
        torch.nn.init.normal_(net.head.fc.weight)
        if kind == 'ours':
            strategy = built('CWRStar', {}, net)
        else:
            strategy = built('Naive', {}, net)
            strategy.plugins.insert(1, AvalancheCWRStarPlugin(net, freeze_remaining_model=True))
        train(strategy, stream.train_stream)
        nets.append(net)
    assert all(torch.equal(*pair) for pair in zip(nets[0].parameters(), nets[1].parameters()))
    assert isinstance(strategy, Naive)


def test_ar1_keeps_labels_with_their_latents():
    stream = domain_stream(3)
    strategy = built('AR1', dict(rm_sz=10))
    known = {tuple(x.tolist()): int(y) for experience in stream.train_stream
             for x, y in zip(*tensors_of(experience))}
    for number, experience in enumerate(stream.train_stream):
        train(strategy, [experience])
        assert len(strategy.latents) == 10
        # Without backbone a latent is the sample itself.
        assert [known[tuple(row.tolist())] for row in strategy.latents] == strategy.latent_labels.tolist()
        share = sum(tuple(row.tolist()) in {tuple(x.tolist()) for x in tensors_of(experience)[0]}
                    for row in strategy.latents)
        assert share == 10 // (number + 1)


def test_progressive_network_answers_with_its_newest_column_and_can_be_loaded():
    stream = domain_stream(3)
    strategy = built('PNNStrategy', dict(hidden_features_per_column=5))
    train(strategy, stream.train_stream)
    x, _ = tensors_of(list(stream.test_stream)[2])
    net = strategy.model.eval()
    assert torch.equal(net(x), net(x, torch.full((len(x),), 2)))
    assert net.layers[0].num_columns == 3
    fresh = built('PNNStrategy', dict(hidden_features_per_column=5), seed=2).model
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(x), net(x))


def test_packnet_calls_other_plugins_and_never_moves_frozen_weights():
    strategy = built('PackNet', dict(post_prune_epochs=1, prune_proportion=[0.5, 0.5, 0.5],
                                     plugins=[dict(type='EarlyStoppingPlugin', patience=9)]))
    layer = next(module for module in strategy.model.modules() if hasattr(module, 'task_index'))
    for experience in domain_stream(3).train_stream:
        owner, before = layer.task_index.clone(), layer.wrappee.weight.detach().clone()
        tasks = strategy.model.task_count
        train(strategy, [experience])
        frozen = owner < tasks
        assert torch.equal(layer.wrappee.weight[frozen], before[frozen])
        assert bool(frozen.any()) == (tasks > 0)
    assert plugin_of(strategy, 'EarlyStoppingPlugin').best_val is not None


def test_packnet_refuses_weight_decay():
    strategy = built('PackNet', dict(post_prune_epochs=1, optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4)))
    with pytest.raises(ConfigError, match='which weight decay gets round'):
        train(strategy, domain_stream(1).train_stream)


def test_learning_to_prompt_trains_prompts_and_head_only():
    strategy = built('LearningToPrompt', DOMAIN['LearningToPrompt'])
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    train(strategy, domain_stream(2, shape=(1, 8, 8)).train_stream)
    moved = {name.split('.')[1] for name, value in strategy.model.state_dict().items()
             if not torch.equal(value, before[name])}
    assert moved == {'prompt', 'head'}


@pytest.mark.slow
def test_experts_get_the_samples_that_their_gate_reconstructs_best():
    stream = class_stream()
    strategy = built('ExpertGateStrategy', dict(ae_train_mb_size=4, ae_train_epochs=60, ae_lr=0.05, ae_latent_dim=6))
    train(strategy, stream.train_stream)
    net = strategy.model.eval()
    for number, experience in enumerate(stream.test_stream):
        x, _ = tensors_of(experience)
        errors = [gate.error(net.gate_input(x)) for gate in net.gates.values()]
        rows = [min((0, 1), key=lambda expert: float(errors[expert][row])) for row in range(len(x))]
        expected = torch.stack([net.experts[str(expert)](x)[row] for row, expert in enumerate(rows)])
        assert torch.allclose(net(x), expected, atol=1e-6)
        assert rows.count(number) > len(x) / 2
    gate = Autoencoder([8], 3)
    row = torch.randn(2, 8)
    assert torch.allclose(gate.error(row), ((gate(row) - row.sigmoid()) ** 2).sum(1))
