#!/usr/bin/env bash
# adapters 1.3.0 with transformers 4.57.6, Compacter and VeRA on a tiny random BERT without a head (BertModel).
# Expected: save_adapter and load_adapter give the same function on the same base.
# Seen: what the layers share (Compacter's rule, VeRA's two matrices) is not in the file; a load draws it anew without a word. With a head on top
# it is in the file: the filter looks for '.shared_parameters.', and here the name has no dot in front.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6 adapters==1.3.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import tempfile

import adapters
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel


def build(family):
    torch.manual_seed(0)
    model = family(BertConfig(vocab_size=50, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
                              intermediate_size=64))
    adapters.init(model)
    return model


def output(model):
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        return model.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0]


changed = {}
for kind in ('compacter', 'vera', 'seq_bn'):
    for family in (BertModel, BertForSequenceClassification):
        model = build(family)
        model.add_adapter('first', config=kind)
        model.set_active_adapters('first')
        for name, value in model.named_parameters():
            if '.first' in name:
                torch.nn.init.normal_(value, std=0.3)  # as if it had trained
        loaded = build(family)
        with tempfile.TemporaryDirectory() as folder:
            model.save_adapter(folder, 'first')
            torch.manual_seed(1)
            loaded.load_adapter(folder, set_active=True)
        shift = float((output(model) - output(loaded)).abs().max())
        changed[kind, family.__name__] = shift > 1e-4
        print(f'{kind} on {family.__name__}: outputs before the save and after the load differ by {shift:.2g}')
assert [key for key, value in changed.items() if value] == [('compacter', 'BertModel'), ('vera', 'BertModel')], \
    'changed: which adapters come back'
EOF
