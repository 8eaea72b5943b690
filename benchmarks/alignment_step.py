"""What a training step of a small open_clip model costs through the Runner, and written by hand.

In turn, in one process, blocks of steps of one model on the same images and captions, which are in memory: process CPU
time, one thread, medians of round-wise ratios. Weights, AdamW and its two groups (no decay of vectors, biases and
embeddings of positions) are the same, and so is the first loss, which is checked.

ours: an epoch of the Runner with its hooks, its checkpoint left out;
hand: open_clip's `CLIP` and `ClipLoss`, a DataLoader of the same data set, captions tokenized in every step;
hand_on_tokens: the same on captions that were tokenized before.

Ours gets captions as strings, too, and remembers the tokens of those that come again; here all do in the second epoch,
which is the first that counts. `new_captions_ms` is what a step pays for strings that it has not seen.

Seen on two busy AMD EPYC cores, 3 rounds: 1.01 x hand and 1.03 x hand_on_tokens for a step of 0.49 s; of a step of
28 ms 0.97 x and 1.07 x, 1.8 ms of overhead.

Claim: ours <= 1.05 x hand for a step of some tenths of a second (`step`). Of a step of some milliseconds (`tiny`) the
difference is what the Runner costs, `overhead_ms`.

    python benchmarks/alignment_step.py --rounds 5
"""

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from clear.engine.training.program import build_runner
from clear.models.towers.export import open_clip_state
from clear.registry import DATASETS

SIZES = dict(
    step=dict(batch=64, batches=4, width=128, layers=3, pixels=64, patch=8, length=32),
    tiny=dict(batch=64, batches=16, width=32, layers=1, pixels=32, patch=16, length=32))
SMALL = dict(tiny=dict(batch=8, batches=2, width=16, layers=1, pixels=32, patch=16, length=32))
WORDS = ['a', 'the', 'of', 'on', 'in', 'at', 'near', 'two', 'some', 'old', 'new', 'red', 'blue', 'green', 'small',
         'large', 'photo', 'picture', 'man', 'woman', 'child', 'dog', 'cat', 'horse', 'bird', 'car', 'bus', 'boat',
         'street', 'house', 'tree', 'river', 'sea', 'beach', 'snow', 'field', 'table', 'cup', 'plate', 'food', 'fruit',
         'flower', 'sign', 'window', 'door', 'light', 'night', 'morning', 'summer', 'winter', 'running', 'standing',
         'sitting', 'playing', 'looking', 'holding']
NOT_DECAYED = ('bias', 'positional_embedding', 'class_embedding', 'logit_scale')


@DATASETS.register_module()
class PairsInMemory(Dataset):
    """Images and captions of ten words, drawn once: `dict(inputs=(3, H, W), captions=str)`."""

    def __init__(self, count: int, pixels: int):
        self.seed = 0
        self.inputs = torch.rand(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
        self.captions = captions(count, 0)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, key) -> dict:
        row = key[1] if isinstance(key, tuple) else key
        return dict(inputs=self.inputs[row], captions=self.captions[row])

    def fingerprint(self) -> str:
        return f'PairsInMemory {tuple(self.inputs.shape)}'


def captions(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [' '.join(rng.choices(WORDS, k=10)) for _ in range(count)]


def model_args(sizes: dict) -> dict:
    width, layers = sizes['width'], sizes['layers']
    return dict(embed_dim=width, text_cfg=dict(width=width, heads=4, layers=layers, context_length=sizes['length']),
                vision_cfg=dict(width=width, head_width=width // 4, layers=layers, patch_size=sizes['patch'],
                                image_size=sizes['pixels']))


def runner_of(folder: Path, sizes: dict, epochs: int):
    tower = dict(arch='ViT-B-32', model_args=model_args(sizes), trainable=True)
    runner = build_runner(dict(
        model=dict(type='ImageTextAlignment', image_encoder=dict(type='OpenCLIPImageEncoder', **tower),
                   text_encoder=dict(type='OpenCLIPTextEncoder', **tower), loss=dict(type='InfoNCELoss')),
        train_dataloader=dict(batch_size=sizes['batch'], num_workers=0, dataset=dict(
            type='PairsInMemory', count=sizes['batch'] * sizes['batches'], pixels=sizes['pixels'])),
        optim_wrapper=dict(constructor='AlignmentOptimConstructor',
                           optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), seed=0, device='cpu', work_dir=str(folder / 'work')))
    runner.call_hook('before_train')
    return runner


def by_hand(runner, sizes: dict):
    """`epoch(tokenizes)`: what trains the same weights by open_clip's classes, and how it gets its loss."""
    import open_clip

    model = open_clip.model.CLIP(**model_args(sizes))
    ours = runner.bare_model
    state = open_clip_state(ours.image_encoder, ours.text_encoder, logit_scale=ours.logit_scale.exp().item())
    model.load_state_dict(state)
    criterion = open_clip.ClipLoss()
    groups: dict[bool, list] = {False: [], True: []}
    for name, value in model.named_parameters():
        groups[value.ndim > 1 and not name.endswith(NOT_DECAYED)].append(value)
    optimizer = torch.optim.AdamW([dict(params=groups[True], weight_decay=0.1),
                                   dict(params=groups[False], weight_decay=0.0)], lr=1e-4)
    assert [len(group['params']) for group in optimizer.param_groups] == \
        [len(group['params']) for group in runner.optim_wrapper.optimizer.param_groups]
    tokenizer = open_clip.SimpleTokenizer(context_length=sizes['length'])
    dataset = runner.train_dataloader.dataset
    loader = DataLoader(dataset, batch_size=sizes['batch'], shuffle=True, drop_last=True)
    known = dict(zip(dataset.captions, tokenizer(dataset.captions)))

    def loss_of(images, tokens):
        scale = model.logit_scale.exp()
        return criterion(normalize(model.encode_image(images), dim=-1), normalize(model.encode_text(tokens), dim=-1),
                         scale)

    def epoch(tokenizes: bool) -> None:
        model.train()
        for batch in loader:
            texts = batch['captions']
            loss = loss_of(batch['inputs'], tokenizer(texts) if tokenizes else torch.stack([*map(known.get, texts)]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))

    batch = next(iter(loader))
    with torch.no_grad():
        losses = (loss_of(batch['inputs'], tokenizer(batch['captions'])),
                  ours(batch['inputs'], batch['captions'], mode='loss')['loss'])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    return epoch


def timed(function, *args) -> float:
    started = time.process_time()
    function(*args)
    return time.process_time() - started


def measured(folder: Path, name: str, sizes: dict, rounds: int) -> dict[str, float]:
    runner = runner_of(folder / name, sizes, rounds + 1)
    hand = by_hand(runner, sizes)
    blocks = dict(ours=runner.train_loop.run_epoch, hand=lambda: hand(True), hand_on_tokens=lambda: hand(False))
    times: dict[str, list[float]] = {kind: [] for kind in blocks}
    for run in blocks.values():
        run()
    for number in range(rounds):
        for kind in [*blocks] if number % 2 else [*blocks][::-1]:
            times[kind].append(timed(blocks[kind]) / sizes['batches'] * 1e3)
    tokenizer = runner.bare_model.text_encoder.tokenizer
    unseen = [captions(sizes['batch'], seed) for seed in range(1, 6)]
    found = dict(
        ours_over_hand=statistics.median(a / b for a, b in zip(times['ours'], times['hand'])),
        ours_over_hand_on_tokens=statistics.median(a / b for a, b in zip(times['ours'], times['hand_on_tokens'])),
        overhead_ms=statistics.median(a - b for a, b in zip(times['ours'], times['hand_on_tokens'])),
        new_captions_ms=statistics.median(timed(tokenizer, texts) for texts in unseen) * 1e3,
        **{f'{kind}_ms': statistics.median(values) for kind, values in times.items()})
    print(f'{name:5}' + '  '.join(f'{kind} {value:.3f}' for kind, value in found.items()), flush=True)
    return {kind: round(value, 3) for kind, value in found.items()}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--small', action='store_true', help='one tiny model and two batches, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes = SMALL if args.small else SIZES
        results = {name: measured(Path(folder), name, each, args.rounds) for name, each in sizes.items()}
    print(json.dumps(dict(benchmark='alignment_step', rounds=args.rounds, **results)))


if __name__ == '__main__':
    main()
