#!/usr/bin/env bash
# torch 2.14.1, BatchNorm2d in training on a CPU: the sums of the channels_last kernel.
# Expected: the same digits whatever the memory format.
# Seen: the output of a wide batch is off by some 1e-3 in channels_last and below 1e-5 in the contiguous format
# (float32, mean 3, standard deviation 1). Small batches show nothing, so two processes with half the batch differ
# from one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch

torch.manual_seed(0)
x = torch.randn(640, 16, 32, 32) + 3
exact = torch.nn.BatchNorm2d(16, dtype=torch.float64)(x.double())
off = {}
for name, layout in (('contiguous', torch.contiguous_format), ('channels_last', torch.channels_last)):
    off[name] = float((torch.nn.BatchNorm2d(16)(x.contiguous(memory_format=layout)) - exact).abs().max())
    print(f'{name}: largest difference to float64 {off[name]:.1e}')
assert off['contiguous'] < 1e-5 < 1e-4 < off['channels_last'], 'changed: the digits of the two formats'
EOF
