#!/usr/bin/env bash
# Avalanche 0.6.0, the cross-entropy of ER_ACE and ER_AML (ACECriterion) in float32.
# Expected: 0 for a right answer with a large margin.
# Seen: NaN from a margin of about 104 on (the logarithm of a softmax that underflowed, times 0); features of a good
# encoder reach that, and the run ends.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from avalanche.training.regularization import cross_entropy_with_oh_targets

for margin in (50.0, 100.0, 110.0, 200.0):
    logits, target = torch.tensor([[margin, 0.0]]), torch.tensor([[1.0, 0.0]])
    value = float(cross_entropy_with_oh_targets(logits, target))
    exact = float(torch.nn.functional.cross_entropy(logits, torch.tensor([0])))
    print(f'margin {margin:5.0f}: {value}  (torch: {exact})')
    assert (value != value) == (margin > 104), 'changed: where NaN begins'
EOF
