#!/usr/bin/env bash
# adapters 1.3.0 with transformers 4.57.6: add_adapter sets no rule for an adapter's name.
# Expected: an adapter called 'clear', 'type' or 'update' is added, or the name is refused with a reason.
# Seen: KeyError "attribute 'clear' already exists", since names become keys of torch's ModuleDict. The adapter stays listed in the
# configuration all the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6 adapters==1.3.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import adapters
import torch
from transformers import BertConfig, BertModel

torch.manual_seed(0)
model = BertModel(BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                             intermediate_size=64))
adapters.init(model)
model.add_adapter('plain', config='seq_bn')
for name in ('clear', 'type', 'update'):
    try:
        model.add_adapter(name, config='seq_bn')
    except KeyError as error:
        print(f'add_adapter({name!r}): {error}; listed: {name in model.adapters_config.adapters}')
        assert name in model.adapters_config.adapters, 'changed: a refused adapter is not listed'
    else:
        raise SystemExit(f'changed: an adapter may be called {name}')
EOF
