#!/usr/bin/env bash
# Avalanche 0.6.0, LwF with one head on a stream whose experiences have task labels of their own.
# Expected (Li and Hoiem 2016, eq. 2): the penalty covers every output that the old network was trained on.
# Seen: classes are kept by task label, a model with one head is looked up under label 0 only: classes of later
# experiences have no penalty, however far their logits move.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
from types import SimpleNamespace

import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.regularization import LearningWithoutForgetting


def stream(shared_classes, size=64, experiences=3, labels=None):
    """Experiences of two classes each, or all of the same two; 6 numbers a sample."""
    generator, parts = torch.Generator().manual_seed(0), []
    for i in range(experiences):
        y = torch.randint(2, (size,), generator=generator) + (0 if shared_classes else 2 * i)
        parts.append((torch.randn(size, 6, generator=generator) + 2 * torch.eye(6)[y], y))
    return tensors_benchmark(train_tensors=parts, test_tensors=parts, task_labels=labels or [0] * experiences,
                             complete_test_set_only=False).train_stream


lwf, model = LearningWithoutForgetting(alpha=1, temperature=2), torch.nn.Linear(6, 6)
for experience in list(stream(shared_classes=False, labels=[0, 1, 2]))[:2]:
    lwf.post_adapt(SimpleNamespace(model=model), experience)
x = torch.randn(8, 6)
logits = model(x).detach()
for index in range(4):
    moved = logits.clone()
    moved[:, index] += 5
    with torch.no_grad():
        penalties = [float(lwf(x, out, model)) for out in (logits, moved)]
    print(f'logit of class {index} + 5: penalty {penalties[0]:.4f} -> {penalties[1]:.4f}')
    is_held = penalties[1] > penalties[0] + 0.01
    assert is_held == (index < 2), 'changed: which classes are held'
EOF
