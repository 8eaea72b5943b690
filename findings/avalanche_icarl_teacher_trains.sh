#!/usr/bin/env bash
# Avalanche 0.6.0, ICaRLLossPlugin: the network that gives the old outputs.
# Expected (Rebuffi et al. 2017, Algorithm 3): outputs of the network as it was before the update.
# Seen: the copy is in train mode: BatchNorm normalises by the new batch, and its running statistics move with every
# batch that it is asked about.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
from types import SimpleNamespace

import torch
from avalanche.training.losses import ICaRLLossPlugin

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).train()
strategy = SimpleNamespace(model=model, device='cpu', mb_x=torch.randn(16, 4) + 3,
                           experience=SimpleNamespace(dataset=SimpleNamespace(targets=[0, 1])))
loss = ICaRLLossPlugin()
loss.after_training_exp(strategy)
before = loss.old_model[1].running_mean.clone()
loss.before_forward(strategy)
moved = float((loss.old_model[1].running_mean - before).abs().max())
with torch.no_grad():
    as_it_was = loss.old_model.eval()(strategy.mb_x)
print(f'running mean of the teacher moved by {moved:.3f} in one batch')
print(f'its outputs differ from those in eval mode by up to {float((loss.old_logits - as_it_was).abs().max()):.3f}')
assert moved > 0, 'changed: the teacher stands still'
EOF
