#!/usr/bin/env bash
# mmengine 0.10.7, DictAction, which reads --cfg-options of every OpenMMLab program.
# Expected: text stays as it was typed; its help promises lists for values with commas only between list items.
# Seen: every space inside a value is dropped, and a file name with a comma becomes a list: a work_dir called
# "my run" is written to "myrun", which may be another run's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 mmengine==0.10.7
"$folder/env/bin/python" -W ignore - <<'EOF'
import argparse

from mmengine.config import DictAction

parser = argparse.ArgumentParser()
parser.add_argument('--cfg-options', nargs='+', action=DictAction)
expected = {'work_dir=out/my run': 'out/myrun', 'load_from=weights/a, b.pth': ['weights/a', 'b.pth'],
            'name=two words': 'twowords'}
for text, seen in expected.items():
    value = next(iter(parser.parse_args(['--cfg-options', text]).cfg_options.values()))
    print(f'{text!r} -> {value!r}')
    assert value == seen, 'changed: how options are read'
EOF
