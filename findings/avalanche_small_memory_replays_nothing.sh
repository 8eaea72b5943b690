#!/usr/bin/env bash
# Avalanche 0.6.0, DER and ER_ACE with a memory smaller than its batch.
# Expected: batches of what the memory holds, or an error; with DER's own defaults (200 places) and a batch of 256 too.
# Seen: nothing is replayed and nothing said: the memory is never read, the run is plain fine-tuning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import warnings

import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.supervised import DER, ER_ACE

warnings.showwarning = lambda *args, **options: None  # Avalanche calls a method of its own that it deprecates


def stream(shared_classes, size=64, experiences=3, labels=None):
    """Experiences of two classes each, or all of the same two; 6 numbers a sample."""
    generator, parts = torch.Generator().manual_seed(0), []
    for i in range(experiences):
        y = torch.randint(2, (size,), generator=generator) + (0 if shared_classes else 2 * i)
        parts.append((torch.randn(size, 6, generator=generator) + 2 * torch.eye(6)[y], y))
    return tensors_benchmark(train_tensors=parts, test_tensors=parts, task_labels=labels or [0] * experiences,
                             complete_test_set_only=False).train_stream


def sizes(cls, mem_size, batch):
    """Rows of every training batch."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 6)
    strategy = cls(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), mem_size=mem_size,
                   batch_size_mem=batch, train_mb_size=16, train_epochs=1, evaluator=None,
                   **({} if cls is ER_ACE else {'criterion': torch.nn.CrossEntropyLoss()}))
    seen = []
    forward = strategy.forward
    strategy.forward = lambda: (seen.append((len(strategy.mb_x), strategy.replay_loader is not None)), forward())[1]
    for experience in stream(shared_classes=False):
        strategy.train(experience)
    return seen


for cls in (DER, ER_ACE):
    below, equal = sizes(cls, 12, 16), sizes(cls, 16, 16)
    replayed = [sum(has_memory for _, has_memory in runs) for runs in (below, equal)]
    print(f'{cls.__name__}: iterations with memory of {len(below)}: {replayed[0]} with 12 places, {replayed[1]} with 16')
    assert replayed[0] == 0 < replayed[1], 'changed: what is replayed'
EOF
