#!/usr/bin/env bash
# adapters 1.3.0 with transformers 4.57.6, a tiny random BERT whose biases are not zero (as in any trained network), with IA3.
# Expected: after merge_adapter the output is that with the adapter active, as it is for LoRA.
# Seen: IA3 rescales what a linear layer gives, its bias too; the merge rescales the weight alone and leaves the bias, without a word.
# With biases of zero, as BERT is initialised with, the two agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6 adapters==1.3.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import adapters
import torch
from transformers import BertConfig, BertModel


def difference(kind, bias):
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                 intermediate_size=64))
    adapters.init(model)
    model.add_adapter('first', config=kind)
    model.set_active_adapters('first')
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith('.bias'):
                value.fill_(bias)
            if '.loras.first.' in name:
                value.add_(0.3 * torch.rand(value.shape))
        ids = torch.arange(3, 11)[None]
        active = model.eval()(ids).last_hidden_state
        model.merge_adapter('first')
        return (model(ids).last_hidden_state - active).abs().max().item()


found = {(kind, bias): difference(kind, bias) for kind in ('lora', 'ia3') for bias in (0.0, 0.5)}
for (kind, bias), value in found.items():
    print(f'{kind}, biases of {bias}: largest difference between merged and active {value:.2g}')
assert found['ia3', 0.5] > 1e-2 > 1e-4 > max(found['ia3', 0.0], found['lora', 0.0], found['lora', 0.5]), 'changed'
EOF
