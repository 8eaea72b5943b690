#!/usr/bin/env bash
# mmpretrain 1.2.0: backbones with a `train` of their own (ResNet, VisionTransformer, ConvNeXt ...), `net = ResNet(18).eval()`.
# Expected: the network, as from every module of torch.
# Seen: None; train() and eval() of a whole classifier around it give the classifier.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 mmengine==0.10.7 mmcv-lite==2.2.0 mmpretrain==1.2.0 "setuptools<81"
"$folder/env/bin/python" -W ignore - <<'EOF'
from mmpretrain.models import ConvNeXt, ResNet, SwinTransformer, VisionTransformer

found = {type(net).__name__: net.eval() for net in (ResNet(18), VisionTransformer('deit-tiny'), ConvNeXt('atto'),
                                                    SwinTransformer('tiny'))}
print({name: type(value).__name__ for name, value in found.items()})
if found['ResNet'] is not None:
    raise SystemExit('changed: eval() gives the network')
EOF
