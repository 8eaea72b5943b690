#!/usr/bin/env bash
# eccv-caption 0.1.0: are the captions that it calls right for an image among the 25,000 that it ranks?
# Expected: all of them, so that a perfect ranking finds every one.
# Seen: two right captions are not in `coco_ids`: no ranking of the list can find them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q eccv-caption==0.1.0 'numpy<2.5' tqdm
"$folder/env/bin/python" -W ignore - <<'PY'
from eccv_caption import Metrics

metrics = Metrics()
listed = {int(name) for name in metrics.coco_ids}
right = {int(name) for names in metrics.eccv_gts['i2t'].values() for name in names}
absent = sorted(right - listed)
print(len(listed), 'captions listed,', len(right), 'right ones, not listed:', absent)
if len(listed) != 25000 or len(absent) != 2:
    raise SystemExit('changed: expected two right captions that are not listed')
PY
