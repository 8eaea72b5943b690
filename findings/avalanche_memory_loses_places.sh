#!/usr/bin/env bash
# Avalanche 0.6.0, ExperienceBalancedBuffer of 10 places, experiences of 2, 5 and 20 samples.
# Expected: ten samples are kept once ten have come.
# Seen: the places that a small experience cannot fill are given to nobody: 2, then 2 + 5, then 2 + 3 + 3 = 8 of 10.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import warnings
from types import SimpleNamespace

import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.storage_policy import ExperienceBalancedBuffer

warnings.showwarning = lambda *args, **options: None
buffer, kept = ExperienceBalancedBuffer(max_size=10, adaptive_size=True), []
parts = [(torch.zeros(count, 1), torch.zeros(count, dtype=torch.long)) for count in (2, 5, 20)]
stream = tensors_benchmark(train_tensors=parts, test_tensors=parts, task_labels=[0, 0, 0],
                           complete_test_set_only=False).train_stream
for experience in stream:
    buffer.update(SimpleNamespace(experience=experience))
    kept.append(len(buffer.buffer))
    print(f'{len(experience.dataset)} samples came; kept {kept[-1]} of 10 places')
assert kept == [2, 7, 8], 'changed: who gets the places'
EOF
