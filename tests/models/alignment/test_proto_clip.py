"""ProtoCLIP's loss by loops, what logs beside it, when it rests, and what is refused."""

import math

import pytest
import torch
from ranks import run_ranks
from tiny_text import TINY_CLIP

from clear.core.errors import ConfigError
from clear.models.alignment import ClusterTargets, ProtoCLIP
from clear.models.alignment.optim_groups import AlignmentOptimConstructor
from clear.registry import MODELS

IMAGE = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
TEXT = dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=TINY_CLIP, trainable=True)
HEAD = dict(type='ProtoCLIPHead', out_channels=5, hidden_channels=7)
ROWS, CLUSTERS, DRAWS = 6, 4, 10
NAMES = ('image', 'text', 'external_image', 'external_text')
TEXTS = ['a', 'dog', 'the red cat', 'two ships', 'no', 'blue']


def model_of(layers=1, **options):
    torch.manual_seed(0)
    return ProtoCLIP(IMAGE, TEXT, dict(type='InfoNCELoss'), {**HEAD, 'num_layers': layers}, **options)


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters_of(names=NAMES):
    generator = torch.Generator().manual_seed(9)
    return {name: ClusterTargets(torch.randint(CLUSTERS, (DRAWS,), generator=generator),
                                 drawn(CLUSTERS, 5, seed=20 + place), drawn(CLUSTERS, 3, seed=30 + place))
            for place, name in enumerate(names)}


def head_by_hand(head, values):
    """Linear, batch statistics, ReLU, linear, unit rows."""
    *hidden, last = [layer for layer in head.mlp.layers if isinstance(layer, torch.nn.Linear)]
    norms = [layer for layer in head.mlp.layers if isinstance(layer, torch.nn.BatchNorm1d)]
    for linear, norm in zip(hidden, norms, strict=True):
        values = values @ linear.weight.T + linear.bias
        spread = ((values - values.mean(0)) ** 2).mean(0)
        values = ((values - values.mean(0)) / (spread + norm.eps).sqrt() * norm.weight + norm.bias).clamp(min=0)
    values = values @ last.weight.T + last.bias
    return torch.stack([row / row.norm() for row in values])


def term_by_loops(features, targets, positions, scale, temperature):
    total = 0.0
    for row, place in zip(features, positions.tolist()):
        label = int(targets.labels[place])
        scores = torch.stack([scale * (row * centre).sum() for centre in targets.student])
        wanted = torch.zeros(CLUSTERS, dtype=torch.float64)
        if temperature is None:
            wanted[label] = 1
        else:
            mates = torch.stack([(targets.teacher[label] * centre).sum() for centre in targets.teacher]) / temperature
            wanted = mates.exp() / mates.exp().sum()
        total = total - (wanted * (scores - scores.exp().sum().log())).sum()
    return total / len(features)


def clip_by_loops(image, text, scale):
    image, text = ([row / row.norm() for row in rows] for rows in (image, text))
    scores = torch.stack([torch.stack([scale * (one * other).sum() for other in text]) for one in image])
    diagonal = scores.diagonal()
    return ((scores.exp().sum(1).log() - diagonal).mean() + (scores.exp().sum(0).log() - diagonal).mean()) / 2


@pytest.mark.parametrize('layers', [0, 1, 2])
@pytest.mark.parametrize('temperature, weights', [(None, (1, 1, 0)), (0.7, (0.5, 2, 0.25)), (0.7, (0, 0, 3)),
                                                  (1, (0, 1.5, 0))])
def test_total_and_gradients_are_those_of_loops(layers, temperature, weights):
    clip_weight, proto_weight, external_weight = weights
    model = model_of(layers, align_weight=clip_weight, proto_weight=proto_weight, external_weight=external_weight,
                     target_temperature=temperature).double().train()
    names = NAMES if external_weight else NAMES[:2]
    model.clusters = clusters_of(names)
    with torch.no_grad():
        model.image_proto_head.mlp.layers[0].weight += 0.1 * drawn(*model.image_proto_head.mlp.layers[0].weight.shape,
                                                                   seed=3)
        model.logit_scale_proto.fill_(math.log(2.5))
    positions = torch.tensor([3, 0, 9, 9, 5, 1])
    found = {side: drawn(ROWS, 16, seed=seed).requires_grad_() for seed, side in enumerate(('image', 'text'))}
    out = model.pair_losses(found, positions=positions)
    total = sum(value for name, value in out.items() if name.startswith('loss'))
    parameters = [*model.image_proto_head.parameters(), *model.text_proto_head.parameters(), model.logit_scale,
                  model.logit_scale_proto, *found.values()]
    grads = torch.autograd.grad(total, parameters, allow_unused=True)

    features = {side: head_by_hand(model.proto_head(side), found[side]) for side in found}
    scale = model.logit_scale_proto.exp()
    terms = {name: term_by_loops(features[name.removeprefix('external_')], targets, positions, scale,
                                 None if name.startswith('external') else temperature)
             for name, targets in model.clusters.items()}
    expected = clip_weight * clip_by_loops(found['image'], found['text'], model.logit_scale.exp())
    expected = expected + proto_weight * (terms['image'] + terms['text']) / 2
    if external_weight:
        expected = expected + external_weight * (terms['external_image'] + terms['external_text']) / 2
    torch.testing.assert_close(total, expected)
    for one, other in zip(grads, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-7)
    for name, targets in model.clusters.items():
        rows = features[name.removeprefix('external_')]
        hits = [int((row @ targets.student.T).argmax() == targets.labels[place]) for row, place in zip(rows, positions)]
        assert out[f'accuracy_{name}'].item() == pytest.approx(sum(hits) / ROWS)
    units = {side: torch.nn.functional.normalize(rows.detach(), dim=1) for side, rows in found.items()}
    gap = (units['image'].mean(0) - units['text'].mean(0)).norm()
    assert out['modality_gap'].item() == pytest.approx(gap.item(), rel=1e-5)
    for side in found:
        assert out[f'feature_std_{side}'].item() == pytest.approx(units[side].std(0).mean().item(), rel=1e-5)
    assert out['logit_scale_proto'].item() == pytest.approx(2.5)


def test_without_clusters_the_loss_is_clips_and_the_further_heads_are_held():
    model = model_of(align_weight=0.5).train()
    images = torch.randn(ROWS, 3, 32, 32)
    before = model.text_proto_head.mlp.layers[1].running_mean.clone()
    out = model(images, TEXTS, mode='loss')
    assert {name for name in out if 'loss' in name} == {'loss_clip'}
    out['loss_clip'].backward()
    plain = MODELS.build(dict(type='ImageTextAlignment', image_encoder=IMAGE, text_encoder=TEXT,
                              loss=dict(type='InfoNCELoss'))).train()
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(out['loss_clip'], plain(images, TEXTS, mode='loss')['loss'])
    held = model.held_parameters()
    assert len(held) == 2 * 6 + 1 and all(parameter.grad is not None and not parameter.grad.any() for parameter in held)
    assert not torch.equal(before, model.text_proto_head.mlp.layers[1].running_mean)
    model.clusters = {name: ClusterTargets(targets.labels, targets.student.float(), targets.teacher.float())
                      for name, targets in clusters_of(NAMES[:2]).items()}
    model(images, TEXTS, positions=torch.arange(ROWS), mode='loss')
    assert model.held_parameters() == []


def test_heads_begin_alike_and_do_not_decay():
    model = model_of()
    first, second = model.image_proto_head.state_dict(), model.text_proto_head.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert model.image_proto_head.mlp.layers[0].weight is not model.text_proto_head.mlp.layers[0].weight
    groups = AlignmentOptimConstructor(dict(optimizer=dict(type='AdamW', lr=1.0))).groups(model, 1.0)
    decayed = {id(parameter) for group in groups if group.get('weight_decay') != 0 for parameter in group['params']}
    spared = [*model.image_proto_head.parameters(), *model.text_proto_head.parameters(), model.logit_scale_proto]
    assert not decayed & {id(parameter) for parameter in spared}
    assert id(model.text_encoder.model.text_projection) in decayed


def test_an_image_side_that_rests_is_in_eval_mode_alone():
    model = model_of(image_head=dict(type='ProjectionMLP', out_channels=16))
    model.image_rests = True
    model.train()
    sides = dict(model.named_children())
    assert {name for name, part in sides.items() if not part.training} == {'image_encoder', 'image_head'}
    assert not any(part.training for part in model.image_encoder.modules())
    model.image_rests = False
    assert all(part.training for part in model.train().children())


def test_both_scales_stay_between_one_and_a_hundred():
    model = model_of(max_logit_scale=100)
    for value, expected in ((7.0, math.log(100)), (-1.0, 0.0)):
        with torch.no_grad():
            model.logit_scale.fill_(value)
            model.logit_scale_proto.fill_(value)
        model.clamp_scales()
        assert model.logit_scale.item() == pytest.approx(expected) == model.logit_scale_proto.item()
    free = model_of(max_logit_scale=None)
    with torch.no_grad():
        free.logit_scale_proto.fill_(7.0)
    free.clamp_scales()
    assert free.logit_scale_proto.item() == 7


@pytest.mark.parametrize('options, message', [
    (dict(projection=None), "projection=dict(type='ProtoCLIPHead'"), (dict(proto_weight=0), 'there are no prototypes'),
    (dict(proto_weight=-1), 'proto_weight'), (dict(projection=dict(type='ProtoCLIPHead', num_layers=-1)), 'num_layers'),
    (dict(loss=dict(type='RKDLoss'), image_head=dict(type='ProjectionMLP', out_channels=9)), 'embeddings are of one'),
    (dict(target_temperature='warm'), 'temperature'),
    (dict(target_temperature=0), 'target_temperature is 0; expected a number above 0'),
    (dict(target_temperature=-1), 'target_temperature is -1; expected a number above 0')])
def test_what_does_not_fit_is_refused(options, message):
    given = dict(image_encoder=IMAGE, text_encoder=TEXT, loss=dict(type='InfoNCELoss'), projection=HEAD) | options
    with pytest.raises(ConfigError) as error:
        MODELS.build(dict(type='ProtoCLIP', **given))
    assert message in str(error.value)


def of_a_rank(rank, world):
    model = model_of(0, external_weight=0.5, target_temperature=0.3).double().train()
    model.clusters = clusters_of()
    own = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    found = {side: drawn(ROWS, 16, seed=seed)[own].requires_grad_() for seed, side in enumerate(('image', 'text'))}
    out = model.pair_losses(found, positions=torch.tensor([3, 0, 9, 9, 5, 1])[own])
    total = sum(value for name, value in out.items() if name.startswith('loss'))
    grads = torch.autograd.grad(total / world, [model.logit_scale_proto, *model.text_proto_head.parameters(),
                                                *found.values()])
    return dict(total=total.detach(), grads=grads, logged={name: value for name, value in out.items()
                                                           if not name.startswith('loss')})


def test_two_processes_have_the_loss_the_gradients_and_the_logs_of_one(tmp_path):
    one, two = of_a_rank(0, 1), run_ranks(of_a_rank, 2, tmp_path, 2)
    torch.testing.assert_close((two[0]['total'] + two[1]['total']) / 2, one['total'])
    *own, _, _ = zip(two[0]['grads'], two[1]['grads'])
    torch.testing.assert_close([first + second for first, second in own], list(one['grads'][:-2]))
    for place in (-2, -1):
        torch.testing.assert_close(torch.cat([rank['grads'][place] for rank in two]), one['grads'][place])
    for rank in two:
        torch.testing.assert_close(rank['logged'], one['logged'])
