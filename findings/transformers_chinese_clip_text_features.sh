#!/usr/bin/env bash
# transformers 4.57.6, a tiny random ChineseCLIPModel.
# Expected: get_text_features(input_ids) gives the text embedding that the model's forward computes.
# Seen: a TypeError. It projects the pooler's output, and this model's text side has no pooler; forward reads the first token.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from transformers import ChineseCLIPConfig, ChineseCLIPModel

torch.manual_seed(0)
part = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
model = ChineseCLIPModel(ChineseCLIPConfig(text_config=dict(part, vocab_size=50), projection_dim=16,
                                           vision_config=dict(part, image_size=32, patch_size=16))).eval()
tokens = torch.tensor([[2, 5, 6, 3]])
with torch.no_grad():
    both = model(input_ids=tokens, pixel_values=torch.zeros(1, 3, 32, 32))
    first = model.text_projection(model.text_model(input_ids=tokens).last_hidden_state[:, 0])
    print('forward gives a text embedding of shape', tuple(both.text_embeds.shape))
    torch.testing.assert_close(both.text_embeds, first / first.norm(dim=-1, keepdim=True))
    try:
        model.get_text_features(input_ids=tokens)
    except TypeError as error:
        print('get_text_features:', error)
    else:
        raise SystemExit('changed: get_text_features works')
EOF
