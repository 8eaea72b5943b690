#!/usr/bin/env bash
# torch 2.14.1: a checkpoint is a zip file with a CRC-32 for each tensor, and torch.load does not look at it.
# Expected: an error for a file whose bytes changed on disk, as any unzip program gives.
# Seen: a flipped bit inside a tensor is loaded without a word; zipfile of the standard library names the member.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'EOF'
import io
import zipfile

import torch

buffer = io.BytesIO()
torch.save({'weight': torch.ones(1000)}, buffer)
data = bytearray(buffer.getvalue())
with zipfile.ZipFile(buffer) as file:
    info = next(item for item in file.infolist() if item.filename.endswith('data/0'))
    start = data.index(torch.ones(4).numpy().tobytes(), info.header_offset)
data[start + 3] ^= 0x40  # a bit of the exponent of the first number
loaded = torch.load(io.BytesIO(bytes(data)), weights_only=True)['weight']
print('first number, saved as 1.0:', float(loaded[0]))
print('zipfile says:', zipfile.ZipFile(io.BytesIO(bytes(data))).testzip())
assert float(loaded[0]) != 1.0, 'changed: torch refuses or repairs it'
EOF
