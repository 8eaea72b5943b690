#!/usr/bin/env bash
# mmpretrain 1.2.0 with NumPy 2.4: RetrievalRecall and RetrievalAveragePrecision.
# Expected: values.
# Seen: AttributeError on any data; both call numpy.in1d, which NumPy 2.4 no longer has.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 mmengine==0.10.7 mmcv-lite==2.2.0 mmpretrain==1.2.0 "setuptools<81"
"$folder/env/bin/python" -W ignore - <<'EOF'
import numpy
import torch
from mmpretrain.evaluation import RetrievalAveragePrecision, RetrievalRecall

assert not hasattr(numpy, 'in1d'), 'changed: NumPy has in1d again'
scores, target = torch.tensor([[0.9, 0.1, 0.5]]), [[0, 2]]
for name, call in (('RetrievalRecall', lambda: RetrievalRecall.calculate(scores, target, topk=1)),
                   ('RetrievalAveragePrecision', lambda: RetrievalAveragePrecision.calculate(scores, target, topk=2))):
    try:
        print(name, call())
    except AttributeError as error:
        print(f'{name}: AttributeError: {error}')
    else:
        raise SystemExit('changed: it works')
EOF
