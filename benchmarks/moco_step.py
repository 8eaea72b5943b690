"""A whole MoCo v2 training step on a CPU: ResNet-18 on 32-pixel images, batch 64, queue of 65,536 keys, one thread.

The network is the published one, with its stem of stride 4; `--net ResNet_CIFAR` has no such stem, five times the
work in convolutions, and hence less to gain outside of them.

In turn, in one process, CPU time, medians of round-wise ratios:

ours: `clear`'s MoCo (streamed loss, one call for the moving average) with fused SGD, in the default memory format,
    which on a CPU is contiguous; see `Encoder`;
published: a step as the published repository makes it, written here: contiguous weights, a clone of the queue, all
    logits side by side, one moving average per parameter, plain SGD (without measuring the accuracy, which it does);
mmpretrain: mmpretrain's MoCo with plain SGD;
passes: forward and backward of the query encoder and forward of the key encoder, in ours' memory format: the limit;
ours_channels_last, passes_channels_last: the same two in the other format (not with --small: on processors without
    AVX-512 torch's kernels of that format are unsound for networks of few channels).

Loss and queue alone (scores, loss, gradient of the queries, enqueueing) are measured apart.

Claims: ours <= 0.80 x published, <= 0.85 x mmpretrain; loss and queue <= 0.5 x published.
"""

import argparse
import json
import statistics
import sys
import time

EXAMPLE = """example:
  python benchmarks/moco_step.py --rounds 7
"""
BATCH, SIZE, DIM, MOMENTUM, TEMPERATURE = 64, 32, 128, 0.999, 0.2


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7, help='rounds of all steps in turn (default: 7)')
    parser.add_argument('--steps', type=int, default=2, help='steps per round (default: 2)')
    parser.add_argument('--net', default='ResNet', choices=['ResNet', 'ResNet_CIFAR'],
                        help='the claims are for ResNet (default)')
    parser.add_argument('--small', action='store_true', help='a small network and queue, to see that it runs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch
    from mmengine.logging import MMLogger

    MMLogger.get_instance('benchmark', log_level='WARNING')  # It would name every initialised parameter.
    torch.set_num_threads(1)
    backbone = dict(type=args.net, depth=18)
    width, queue_size = 512, 65536
    if args.small:
        backbone, width, queue_size = dict(backbone, stem_channels=8, base_channels=8), 64, 256
    torch.manual_seed(0)
    images = [torch.randn(BATCH, 3, SIZE, SIZE) for _ in range(2)]
    print(f'{backbone}, {SIZE} px, batch {BATCH}, queue {queue_size}, 1 thread, torch {torch.__version__}')
    steps = dict(ours=ours(backbone, width, queue_size, images),
                 published=published(backbone, width, queue_size, images),
                 mmpretrain=mmpretrain(backbone, width, queue_size, images), passes=passes(backbone, width, images))
    if not args.small:
        steps.update(ours_channels_last=ours(backbone, width, queue_size, images, channels_last=True),
                     passes_channels_last=passes(backbone, width, images, channels_last=True))
    whole = measure(steps, args.rounds, args.steps)
    parts = measure(dict(ours=ours_loss(queue_size), published=published_loss(queue_size)), args.rounds,
                    4 * args.steps)
    ratios = dict(ours_over_published=ratio(whole, 'ours', 'published'),
                  ours_over_mmpretrain=ratio(whole, 'ours', 'mmpretrain'),
                  ours_over_passes=ratio(whole, 'ours', 'passes'),
                  loss_over_published=ratio(parts, 'ours', 'published'))
    if not args.small:
        ratios.update({f'{name}_over_channels_last': ratio(whole, name, f'{name}_channels_last')
                       for name in ('ours', 'passes')})
    print(json.dumps(dict(benchmark='moco_step', net=args.net, rounds=args.rounds, steps=args.steps, **ratios)))
    return 0


def measure(steps, rounds, repeats) -> dict[str, list[float]]:
    """CPU seconds per step, by name and round; every step once before."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.process_time()
            for _ in range(repeats):
                step()
            times[name].append((time.process_time() - started) / repeats)
    for name, values in times.items():
        print(f'{name:21}{1000 * statistics.median(values):8.1f} ms CPU '
              f'({1000 * min(values):.1f} to {1000 * max(values):.1f})')
    return times


def ratio(times, name, other) -> float:
    return round(statistics.median(a / b for a, b in zip(times[name], times[other])), 3)


def ours(backbone, width, queue_size, images, channels_last=None):
    import torch

    from clear.registry import MODELS

    model = MODELS.build(dict(type='MoCo', backbone=backbone, queue_size=queue_size, momentum=MOMENTUM,
                              temperature=TEMPERATURE, channels_last=channels_last,
                              neck=dict(type='ProjectionMLP', in_channels=width, out_channels=DIM)))
    model.init_weights()
    optimizer = torch.optim.SGD(model.encoder_q.parameters(), 0.03, momentum=0.9, weight_decay=1e-4, fused=True)
    iteration = 0

    def step():
        nonlocal iteration
        model.set_progress(iteration, 1000, 100)
        iteration += 1
        loss = model(images, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def published(backbone, width, queue_size, images):
    import torch
    from torch.nn.functional import normalize

    encoder_q = plain_encoder(backbone, width)
    encoder_k = plain_encoder(backbone, width)
    for param_q, param_k in zip(encoder_q.parameters(), encoder_k.parameters()):
        param_k.data.copy_(param_q.data)
        param_k.requires_grad = False
    queue, pointer = normalize(torch.randn(DIM, queue_size), dim=0), torch.zeros(1, dtype=torch.long)
    optimizer = torch.optim.SGD(encoder_q.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)

    def step():
        query = normalize(encoder_q(images[0]), dim=1)
        with torch.no_grad():
            for param_q, param_k in zip(encoder_q.parameters(), encoder_k.parameters()):
                param_k.data = param_k.data * MOMENTUM + param_q.data * (1.0 - MOMENTUM)
            order = torch.randperm(BATCH)
            key = normalize(encoder_k(images[1][order]), dim=1)[order.argsort()]
        loss = all_logits_loss(query, key, queue)
        overwrite(queue, pointer, key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def all_logits_loss(query, key, queue):
    import torch

    positive = torch.einsum('nc,nc->n', [query, key]).unsqueeze(-1)
    negative = torch.einsum('nc,ck->nk', [query, queue.clone().detach()])
    logits = torch.cat([positive, negative], dim=1)
    logits /= TEMPERATURE
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def overwrite(queue, pointer, key):
    start = int(pointer)
    queue[:, start:start + len(key)] = key.T
    pointer[0] = (start + len(key)) % queue.shape[1]


def mmpretrain(backbone, width, queue_size, images):
    import torch

    from clear.registry import MODELS

    head = dict(type='ContrastiveHead', temperature=TEMPERATURE, loss=dict(type='mmpretrain.CrossEntropyLoss',
                                                                           loss_weight=1.0))
    model = MODELS.build(dict(
        type='mmpretrain.MoCo', backbone=backbone, queue_len=queue_size, feat_dim=DIM, momentum=1 - MOMENTUM, head=head,
        neck=dict(type='MoCoV2Neck', in_channels=width, hid_channels=width, out_channels=DIM, with_avg_pool=True)))
    model.init_weights()
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.03, momentum=0.9, weight_decay=1e-4)

    def step():
        loss = model.loss(images, None)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def passes(backbone, width, images, channels_last=False):
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    query, key = (plain_encoder(backbone, width).to(memory_format=layout) for _ in range(2))
    images = [each.contiguous(memory_format=layout) for each in images]

    def step():
        query.zero_grad()
        query(images[0]).sum().backward()
        with torch.no_grad():
            key(images[1])

    return step


def plain_encoder(backbone, width):
    import torch
    from torch import nn

    from clear.registry import MODELS

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = MODELS.build(backbone)
            self.fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, DIM))

        def forward(self, images):
            return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(self.backbone(images)[-1], 1), 1))

    encoder = Encoder()
    encoder.backbone.init_weights()
    return encoder


def ours_loss(queue_size):
    from clear.models.losses import MoCoLoss
    from clear.models.queue import enqueue

    query, key, queue, pointer = embeddings(queue_size)
    criterion = MoCoLoss(TEMPERATURE)

    def step():
        query.grad = None
        criterion(query, key, queue).backward()
        enqueue(queue, pointer, key)

    return step


def published_loss(queue_size):
    query, key, queue, pointer = embeddings(queue_size)

    def step():
        query.grad = None
        all_logits_loss(query, key, queue).backward()
        overwrite(queue, pointer, key)

    return step


def embeddings(queue_size):
    import torch
    from torch.nn.functional import normalize

    query, key = normalize(torch.randn(2, BATCH, DIM), dim=2)
    queue = normalize(torch.randn(DIM, queue_size), dim=0)
    return query.clone().requires_grad_(), key, queue, torch.zeros(1, dtype=torch.long)


if __name__ == '__main__':
    sys.exit(main())
