#!/usr/bin/env bash
# torchvision 0.29.1, PNG masks with a palette of 2, 4, 5, 16 and 17 colours, saved by Pillow 13.0.0.
# Expected: decode_image with its default mode gives the indices of the palette, as it does for 17 colours and more.
# Seen: Pillow stores up to 16 colours with 1, 2 or 4 bits a pixel. Of such a file each row begins with the packed bytes
# in place of indices, and the rest of it means nothing. No error. A mask of five classes is read as noise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow==13.0.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import io

import numpy as np
import torch
from PIL import Image
from torchvision.io import decode_image

for colours, bits in ((2, 1), (4, 2), (5, 4), (16, 4), (17, 8)):
    ids = np.arange(48, dtype=np.uint8).reshape(4, 12) % colours
    image = Image.frombytes('P', (12, 4), ids.tobytes())
    image.putpalette([value for index in range(colours) for value in (index, 255 - index, 2 * index)])
    file = io.BytesIO()
    image.save(file, 'PNG')
    content = file.getvalue()
    assert content[24] == bits and np.array_equal(np.array(Image.open(io.BytesIO(content))), ids)
    found = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8)).numpy()
    packed = np.packbits(np.unpackbits(ids[..., None], axis=2)[..., 8 - bits:].reshape(4, -1), axis=1)
    whole = 12 * bits // 8  # bytes of a row; of one that is begun the unused bits are anything
    print(f'{colours} colours, {bits} bits: first row begins', found[0, 0, :whole].tolist(), 'where the mask has',
          ids[0].tolist())
    assert found.shape == (1, 4, 12) and np.array_equal(found[0, :, :whole], packed[:, :whole]), 'changed'
    if bits < 8 and np.array_equal(found[0], ids):
        raise SystemExit('changed: the indices are read')
EOF
