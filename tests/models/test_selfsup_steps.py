"""Two training steps of every algorithm against formulas over single rows, written from the papers."""

import math

import pytest
import torch
import torch.nn.functional as F
from selfsup_cases import BATCH, CASES, build, make_views, total

LR = 0.1


class Reference:
    """Parameters as leaves by name, what momentum encoders and memories hold, and encoders as plain functions."""

    def __init__(self, model):
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self.leaves = {key: self.state[key].requires_grad_() for key, value in model.named_parameters()
                       if value.requires_grad}

    def follow(self, target, source, momentum):
        for key in self.leaves:
            if key.startswith(f'{source}.'):
                name = key.replace(source, target, 1)
                self.state[name] = momentum * self.state[name] + (1 - momentum) * self.leaves[key].detach()

    def norm(self, rows, prefix):
        """BatchNorm over all axes but the second."""
        axes = [axis for axis in range(rows.ndim) if axis != 1]
        shape = [1, -1] + [1] * (rows.ndim - 2)
        mean = rows.mean(axes)
        variance = ((rows - mean.view(shape)) ** 2).mean(axes)
        out = (rows - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
        if f'{prefix}.weight' in self.state:
            out = out * self.state[f'{prefix}.weight'].view(shape) + self.state[f'{prefix}.bias'].view(shape)
        return out

    def pooled(self, prefix, images):
        maps = F.conv2d(images, self.state[f'{prefix}.backbone.conv.weight'], stride=2, padding=1)
        return torch.relu(self.norm(maps, f'{prefix}.backbone.bn')).flatten(2).mean(2)

    def mlp(self, prefix, rows, activation=torch.relu):
        """Linear, BatchNorm where there is one, activation; no activation after the last linear layer."""
        linear = sorted({int(key.removeprefix(f'{prefix}.').split('.')[0]) for key in self.state
                         if key.startswith(f'{prefix}.') and key.endswith('.weight') and self.state[key].ndim == 2})
        for index in linear:
            rows = rows @ self.state[f'{prefix}.{index}.weight'].T + self.state[f'{prefix}.{index}.bias']
            if f'{prefix}.{index + 1}.running_mean' in self.state:
                rows = self.norm(rows, f'{prefix}.{index + 1}')
            rows = activation(rows) if index != linear[-1] else rows
        return rows

    def embed(self, prefix, images):
        return self.mlp(f'{prefix}.neck.layers', self.pooled(prefix, images))


def unit(rows):
    return torch.stack([row / row.norm() for row in rows])


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def push(state, keys):
    """Over the oldest columns of the queue, one after the other."""
    for key in keys:
        column = int(state['queue_ptr'])
        state['queue'][:, column] = key
        state['queue_ptr'][0] = (column + 1) % state['queue'].shape[1]


def moco(ref, views):
    ref.follow('encoder_k', 'encoder_q', 0.9)
    queries = unit(ref.embed('encoder_q', views[0]))
    keys = unit(ref.embed('encoder_k', views[1]).detach())
    total_loss = 0
    for query, key in zip(queries, keys):
        scores = [query @ key / 0.2] + [query @ column / 0.2 for column in ref.state['queue'].T.clone()]
        total_loss = total_loss - (scores[0].exp() / sum(score.exp() for score in scores)).log()
    push(ref.state, keys)
    return total_loss / BATCH


def clsa(ref, views):
    ref.follow('encoder_k', 'encoder_q', 0.9)
    keys = unit(ref.embed('encoder_k', views[0]).detach())
    weak = [unit(ref.embed('encoder_q', view)) for view in views[1:3]]
    strong = [unit(ref.embed('encoder_q', view)) for view in views[3:]]
    bank = torch.cat([keys, ref.state['queue'].T.clone()])
    loss = 0
    for w in weak:
        for row in range(BATCH):
            loss = loss - torch.log_softmax(bank @ w[row] / 0.2, 0)[row] / BATCH
        for s in strong:
            for row in range(BATCH):
                target = torch.softmax(bank @ w[row].detach() / 0.3, 0)
                loss = loss - 0.5 * (target * torch.log_softmax(bank @ s[row] / 0.3, 0)).sum() / BATCH
    push(ref.state, keys)
    return loss


def simclr(ref, views):
    rows = unit(ref.embed('encoder', torch.cat(views)))
    loss = 0
    for i in range(2 * BATCH):
        other = (i + BATCH) % (2 * BATCH)
        rest = sum((rows[i] @ rows[j] / 0.2).exp() for j in range(2 * BATCH) if j != i)
        loss = loss - ((rows[i] @ rows[other] / 0.2).exp() / rest).log()
    return loss / (2 * BATCH)


def byol(ref, views):
    ref.follow('momentum_encoder', 'encoder', 0.9)
    loss = 0
    for own, other in ((0, 1), (1, 0)):
        predictions = ref.mlp('predictor.layers', ref.embed('encoder', views[own]))
        targets = ref.embed('momentum_encoder', views[other]).detach()
        loss = loss + sum(2 - 2 * cosine(p, z) for p, z in zip(predictions, targets)) / BATCH
    return loss


def simsiam(ref, views):
    embeddings = [ref.embed('encoder', view) for view in views]
    loss = 0
    for own, other in ((0, 1), (1, 0)):
        predictions = ref.mlp('predictor.layers', embeddings[own])
        loss = loss - sum(cosine(p, z) for p, z in zip(predictions, embeddings[other].detach())) / (2 * BATCH)
    return loss


def barlow_twins(ref, views):
    z1, z2 = (ref.norm(ref.embed('encoder', view), 'none') for view in views)
    loss = 0
    for i in range(z1.shape[1]):
        for j in range(z1.shape[1]):
            c = (z1[:, i] * z2[:, j]).sum() / BATCH
            loss = loss + ((1 - c) ** 2 if i == j else 0.02 * c**2)
    return loss


def vicreg(ref, views):
    z = [ref.embed('encoder', view) for view in views]
    dim = z[0].shape[1]
    loss = 25 * ((z[0] - z[1]) ** 2).mean()
    for rows in z:
        loss = loss + 12.5 * sum(torch.relu(1 - (column.var() + 1e-4).sqrt()) for column in rows.T) / dim
        covariance = torch.cov(rows.T)
        loss = loss + sum(covariance[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
    return loss


def swav(ref, views):
    with torch.no_grad():
        ref.leaves['prototypes.weight'].copy_(unit(ref.leaves['prototypes.weight']))
    prototypes = ref.state['prototypes.weight']
    features = torch.cat([ref.pooled('encoder', torch.cat(views[:2])), ref.pooled('encoder', views[2])])
    embeddings = unit(ref.mlp('encoder.neck.layers', features)).split(BATCH)
    scores = [rows @ prototypes.T for rows in embeddings]
    is_full = int(ref.state['queue_count']) >= ref.state['queue'].shape[2]
    loss = 0
    for i in range(2):
        everything = scores[i].detach()
        if is_full:
            everything = torch.cat([everything, (ref.state['queue'][i].T @ prototypes.T).detach()])
        codes = sinkhorn(everything)[:BATCH]
        for v in range(3):
            if v != i:
                loss = loss - (codes * torch.log_softmax(scores[v] / 0.1, 1)).sum(1).mean() / 4
    for i in range(2):
        start = dict(queue=ref.state['queue'][i], queue_ptr=ref.state['queue_ptr'].clone())
        push(start, embeddings[i].detach())
    ref.state['queue_ptr'] = start['queue_ptr']
    ref.state['queue_count'] += BATCH
    return loss


def sinkhorn(scores):
    codes = (scores / 0.05).exp()
    for _ in range(3):
        codes = codes / codes.sum(0, keepdim=True)
        codes = codes / codes.sum(1, keepdim=True)
    return codes


def dino(ref, views):
    ref.follow('teacher', 'student', 0.9)

    def outputs(prefix, large, small):
        features = torch.cat([ref.pooled(prefix, torch.cat(large)), *[ref.pooled(prefix, view) for view in small]])
        hidden = unit(ref.mlp(f'{prefix}.neck.mlp.layers', features, activation=F.gelu))
        return (hidden @ unit(ref.state[f'{prefix}.neck.last_layer']).T).split(BATCH)

    teacher = [each.detach() for each in outputs('teacher', views[:2], [])]
    student = outputs('student', views[:2], views[2:])
    center = ref.state['criterion.center']
    loss, pairs = 0, 0
    for t in range(2):
        target = torch.softmax((teacher[t] - center) / 0.07, 1)
        for s in range(3):
            if s != t:
                loss = loss - (target * torch.log_softmax(student[s] / 0.1, 1)).sum(1).mean()
                pairs += 1
    ref.state['criterion.center'] = 0.9 * center + 0.1 * torch.cat(teacher).mean(0)
    return loss / pairs


FORMULAS = {'MoCo': moco, 'CLSA': clsa, 'SimCLR': simclr, 'BYOL': byol, 'SimSiam': simsiam,
            'BarlowTwins': barlow_twins, 'VICReg': vicreg, 'SwAV': swav, 'DINO': dino}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', CASES)
def test_training_steps_match_the_formulas(name):
    """Four steps, so that momentum encoders differ from what they follow, queues wrap, and SwAV's takes part."""
    model = build(name)
    ref = Reference(model)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], LR)
    for step in range(4):
        views = make_views(name, step)
        loss, expected = total(model(views, mode='loss')), FORMULAS[name](ref, views)
        close(loss, expected)
        optimizer.zero_grad()
        loss.backward()
        gradients = dict(zip(ref.leaves, torch.autograd.grad(expected, list(ref.leaves.values()))))
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                close(parameter.grad, gradients[key])
        optimizer.step()
        with torch.no_grad():
            for key, leaf in ref.leaves.items():
                leaf -= LR * gradients[key]
    for key, value in model.state_dict().items():
        if 'running' not in key and 'tracked' not in key:
            close(value, ref.state[key].detach())
    assert math.isfinite(loss.item())
