#!/usr/bin/env bash
# clip-benchmark 1.6.2, image_caption_selection (SugarCrepe): a model that cannot tell the two captions apart.
# Expected: no credit, or half of it.
# Seen: acc 1.0. The right caption stands first in every item, and argmax gives equal scores to the first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 tqdm
"$folder/env/bin/pip" install -q --no-deps clip-benchmark==1.6.2
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from clip_benchmark.metrics.image_caption_selection import evaluate


class Blind:
    encode_image = staticmethod(lambda images: images.flatten(1))
    encode_text = staticmethod(lambda tokens: torch.ones(len(tokens), 3))


images = torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0))
captions = [['a dog on a mat', 'a mat on a dog']] * 8
found = evaluate(Blind(), [(images, captions)], lambda texts: torch.zeros(len(texts)), 'cpu', amp=False)
print(found)
if found['text_acc'] != 1.0:
    raise SystemExit('changed: equal captions are no longer right')
EOF
