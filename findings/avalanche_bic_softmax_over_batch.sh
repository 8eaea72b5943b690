#!/usr/bin/env bash
# Avalanche 0.6.0, BiC: the distillation target.
# Expected (Wu et al. 2019, section 3.1): a softmax over the old classes of each sample, at temperature T.
# Seen: a softmax over dimension 0, the samples of the batch, at a literal 2: a sample's weights do not sum to 1, and
# T of the plugin is never read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from avalanche.training.plugins import BiCPlugin

torch.manual_seed(0)
new, old = torch.randn(6, 4), 3 * torch.randn(6, 4)
seen = {T: float(BiCPlugin(mem_size=10, T=T).cross_entropy(new, old)) for T in (2, 5)}
paper = {T: float(-((old / T).softmax(1) * (new / T).log_softmax(1)).sum(1).mean()) for T in (2, 5)}
over_batch = (old / 2).softmax(0)
print('value   ', seen)
print('formula ', paper)
print("a sample's weights sum to", [round(float(total), 3) for total in over_batch.sum(1)])
assert seen[2] == seen[5], 'changed: T is read'
assert abs(seen[2] - float(torch.nn.functional.cross_entropy(new / 2, over_batch))) < 1e-6, 'changed: the softmax'
assert abs(seen[2] - paper[2]) > 0.01
EOF
