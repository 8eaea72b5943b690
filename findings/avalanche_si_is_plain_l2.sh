#!/usr/bin/env bash
# Avalanche 0.6.0, SynapticIntelligence: every importance stands at the clip of 0.001, whatever the path integral was.
# Expected (Zenke et al. 2017, eq. 5): importances differ between weights, so that those that lowered the loss are held.
# Seen: all of them equal 0.001, so the penalty is plain L2. (On a CPU the old weights are views of the live ones, so
# without a copy the path integral is 0 and the penalty too.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from avalanche.training.plugins import SynapticIntelligencePlugin as Plugin

# The plugin's own update of importances, fed with path integrals of very different size.
path_integral, moved = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 100.0]), torch.full((5,), 0.01)
net = torch.nn.Module()
net.weight = torch.nn.Parameter(moved.clone())
plugin = Plugin(si_lambda=1)
ewc, syn = plugin.ewc_data, plugin.syn_data
Plugin.create_syn_data(net, ewc, syn, set())
Plugin.init_batch(net, ewc, syn, set())
print('old weights share the memory of the live ones:', ewc[0]['weight'].data.data_ptr() == net.weight.data_ptr())
ewc[0]['weight'].data = torch.zeros(5)  # the weights before this experience, as a copy
syn['trajectory']['weight'].data = -path_integral
Plugin.update_ewc_data(net, ewc, syn, 0.001, set(), 1, eps=plugin.eps)  # as after_training_exp calls it
importances = ewc[1]['weight'].data
print('path integrals', path_integral.tolist())
print('importances   ', importances.tolist())
print('by the formula', (path_integral / (moved ** 2 + plugin.eps)).tolist())
assert torch.allclose(importances, torch.full((5,), 0.001)), 'changed: the clip no longer holds all of them'
EOF
