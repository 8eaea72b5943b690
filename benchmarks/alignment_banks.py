"""What an epoch of alignment costs when locked towers are read from banks.

With the image tower in a bank against the trained text tower alone, its features and captions in memory; with both
towers in banks against a bare tensor loop over the two heads. The same modules, batches and optimiser, in turn in one
process: process CPU time of an epoch with its hooks and without its checkpoint, one thread, medians of round-wise
ratios. The bare loops have the loss as one writes it, one matrix of scores and two cross-entropies, which is the
fastest for batches of this size, and draw no captions. Extraction is timed apart.

Seen on two busy AMD EPYC cores, 3 rounds: 1.00 with one tower in a bank, 0.93 with both.

Claims: ideal / ours >= 0.9 with one tower in a bank, >= 0.8 with both.

    python benchmarks/alignment_banks.py --rounds 5
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, normalize

from clear.engine.training.banks import read_banks
from clear.engine.training.program import build_runner

CLASSES = ['bus', 'cat', 'dog', 'ship', 'tree', 'house', 'road', 'lake']
TEMPLATES = ['a photo of a {}.', 'the {}', 'a small picture of one {} in the morning', 'many a {}', 'a drawing of a {}']
SIZES = dict(images=2048, batch=256, width=128, layers=2, dim=384)
SMALL = dict(images=96, batch=16, width=32, layers=2, dim=32)


def write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / CLASSES[number % len(CLASSES)] / f'{number:06}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)


def runner_of(folder: Path, sizes: dict, rounds: int, trains_text: bool):
    """A built runner whose banks are made, and the CPU seconds that these took."""
    args = dict(embed_dim=sizes['dim'], text_cfg=dict(width=sizes['width'], heads=4, layers=sizes['layers'],
                                                      context_length=16),
                vision_cfg=dict(width=sizes['width'], head_width=sizes['width'] // 4, layers=sizes['layers'],
                                patch_size=8, image_size=32))
    tower = dict(arch='ViT-B-32', model_args=args)
    head = dict(type='ProjectionMLP', out_channels=sizes['dim'])
    images = dict(type='PromptedClassification', images=dict(type='ImageFolder', root=str(folder / 'images')),
                  templates=TEMPLATES)
    runner = build_runner(dict(
        model=dict(type='ImageTextAlignment', image_encoder=dict(type='OpenCLIPImageEncoder', **tower),
                   text_encoder=dict(type='OpenCLIPTextEncoder', trainable=trains_text, **tower), image_head=head,
                   text_head=head, loss=dict(type='InfoNCELoss', detach_teacher=False)),
        train_dataloader=dict(batch_size=sizes['batch'], num_workers=0, dataset=dict(
            type='ImageTextPairs', images=images, transform=[dict(type='Resize', size=32), dict(type='ToTensor')])),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        train_cfg=dict(by_epoch=True, max_epochs=rounds + 2), seed=0, device='cpu',
        work_dir=str(folder / f'work_{trains_text}'), banks=dict(root=str(folder / f'banks_{trains_text}'))))
    captions = [runner.train_dataloader.dataset[0, row]['captions'] for row in range(sizes['images'])]
    seconds = timed(lambda: read_banks(runner))
    runner.call_hook('before_train')
    return runner, captions, seconds


def ideal(runner, captions: list[str], batch: int, trains_text: bool):
    """The same training of what trains, on tensors in memory and nothing else."""
    dataset = runner.train_dataloader.dataset
    model = copy.deepcopy(runner.bare_model).train()
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    count, targets = len(dataset) // batch * batch, torch.arange(batch)
    samples = [dataset[0, row] for row in range(len(dataset))]
    images = torch.stack([sample['image_features'] for sample in samples])
    texts = None if trains_text else torch.stack([sample['text_features'] for sample in samples])

    def run():
        for rows in torch.randperm(len(dataset))[:count].split(batch):
            text = model.text_encoder([captions[row] for row in rows.tolist()]) if trains_text else texts[rows]
            scores = model.logit_scale.exp() * normalize(model.image_head(images[rows])) @ normalize(
                model.text_head(text)).T
            loss = (cross_entropy(scores, targets) + cross_entropy(scores.T, targets)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def timed(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def measured(folder: Path, sizes: dict, rounds: int, trains_text: bool) -> dict[str, float]:
    runner, captions, extraction = runner_of(folder, sizes, rounds, trains_text)
    bare = ideal(runner, captions, sizes['batch'], trains_text)
    runner.train_loop.run_epoch()
    bare()  # warm
    pairs = []
    for number in range(rounds):
        runs = [runner.train_loop.run_epoch, bare]
        found = [timed(run) for run in (runs if number % 2 else runs[::-1])]
        pairs.append(found if number % 2 else found[::-1])
    ours, theirs = (statistics.median(times) for times in zip(*pairs))
    print(f'{"one tower in a bank" if trains_text else "both towers in banks":22} {ours:7.3f} s an epoch, ideal '
          f'{theirs:7.3f} s, extraction {extraction:7.3f} s (CPU)', flush=True)
    return dict(ratio=statistics.median(theirs / ours for ours, theirs in pairs), epoch_s=ours, ideal_s=theirs,
                extraction_s=extraction)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--small', action='store_true', help='tiny towers and six batches, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = SMALL if args.small else SIZES
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / 'images', sizes['images'])
        one, both = (measured(Path(folder), sizes, args.rounds, trains_text) for trains_text in (True, False))
    print(json.dumps(dict(benchmark='alignment_banks', rounds=args.rounds, **sizes, one_in_bank=one['ratio'],
                          both_in_banks=both['ratio'], times=dict(one=one, both=both))))


if __name__ == '__main__':
    main()
