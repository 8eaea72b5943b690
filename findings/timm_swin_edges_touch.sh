#!/usr/bin/env bash
# timm 1.0.31, Swin with images that its windows do not divide: create_model('swin_tiny_patch4_window7_224',
# img_size=256) has maps of 64, 32, 16 and 8 tokens under windows of 7.
# Expected: a token sees those of its window, and in a shifted window only its neighbours, as in torchvision 0.29.1,
# which pads the map and then shifts it.
# Seen: timm shifts and then pads, with the mask of the other order. Rows that the shift has brought from the top stand
# beside those of the bottom, unmasked: one shifted block lets the last row depend on the first, and columns likewise.
# The same weights give other outputs than torchvision's. With 224 pixels, where nothing is padded, they are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'EOF'
import timm
import torch
from torchvision.models.swin_transformer import SwinTransformerBlock


def rows_seen(block, size):
    """Rows of a map on which the last one depends."""
    tokens = torch.randn(1, size, size, block.norm1.weight.numel(), dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(block(tokens)[0, -1].sum(), tokens)
    return [row for row, value in enumerate(gradient[0].abs().sum((1, 2)).tolist()) if value > 1e-20]


torch.manual_seed(0)
for pixels, edges_touch in ((224, False), (256, True)):
    model = timm.create_model('swin_tiny_patch4_window7_224', img_size=pixels).double().eval()
    # The shifted block of the first stage: that of the fourth has none at 224 pixels.
    theirs, size = model.layers[0].blocks[1], pixels // 4
    block = SwinTransformerBlock(96, 3, [7, 7], [3, 3]).double().eval()
    state = {name.replace('mlp.fc1', 'mlp.0').replace('mlp.fc2', 'mlp.3'): value
             for name, value in theirs.state_dict().items()}
    block.load_state_dict(state | {'attn.relative_position_index': block.attn.relative_position_index})
    found, wanted = rows_seen(theirs, size), rows_seen(block, size)
    tokens = torch.randn(1, size, size, 96, dtype=torch.float64)
    with torch.no_grad():
        off = (theirs(tokens) - block(tokens)).abs().max().item()
    print(f'{pixels} pixels: the last of {size} rows sees rows {found} in timm and {wanted} in torchvision; outputs of '
          f'the same weights differ by {off:.1e}')
    assert 0 not in wanted, 'changed: rows that torchvision sees'
    assert (0 in found) == edges_touch == (off > 1e-6), 'changed: rows that timm sees'
EOF
