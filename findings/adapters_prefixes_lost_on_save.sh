#!/usr/bin/env bash
# adapters 1.3.0 with transformers 4.57.6, a tiny random BERT with prefix tuning.
# Expected: after save_pretrained, as after any save, the network in memory trains on.
# Seen: the save takes the shared prefixes out of the layers and does not put them back. The output stays, but train_adapter, add_adapter
# and delete_adapter fail with an AttributeError about None, and a state dict lacks the layers' names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6 adapters==1.3.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import tempfile

import adapters
import torch
from transformers import BertConfig, BertModel

CALLS = {
    'train_adapter': lambda model: model.train_adapter('first'),
    'add_adapter': lambda model: model.add_adapter('second', config='prefix_tuning'),
    'delete_adapter': lambda model: model.delete_adapter('first'),
}


def build():
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                 intermediate_size=64))
    adapters.init(model)
    model.add_adapter('first', config='prefix_tuning')
    model.set_active_adapters('first')
    return model.eval()


failed = []
for name, call in CALLS.items():
    call(build())  # works before the save
    model = build()
    before = len(model.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
    print(f'{before} names in the state dict before the save, {len(model.state_dict())} after it')
    try:
        call(model)
    except AttributeError as error:
        failed.append(name)
        print(f'{name} after save_pretrained: {error}')
assert failed == list(CALLS), 'changed: a saved network trains on'
EOF
