#!/usr/bin/env bash
# sentence-transformers 5.7.0, WordEmbeddings read by from_text_file, twice, with the default tokenizer.
# Expected: a text is cut at max_seq_length words, and a second model leaves the first as it was.
# Seen: nothing is cut. Both models share the one tokenizer object of the default argument, so reading a second file gives the first model
# the second one's vocabulary: 'red' gets the vector of another word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 numpy==2.4.6 transformers==4.57.6 sentence-transformers==5.7.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - <<'EOF'
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, WordEmbeddings

with tempfile.TemporaryDirectory() as folder:
    files = Path(folder, 'first.txt'), Path(folder, 'second.txt')
    files[0].write_text('red 1 0 0\nblue 0 1 0\n')
    files[1].write_text('blue 0 1 0\nred 1 0 0\n')
    words = WordEmbeddings.from_text_file(str(files[0]))
    model = SentenceTransformer(modules=[words, Pooling(3)], device='cpu')
    model.max_seq_length = 2
    kept = model.preprocess(['red red blue blue'])['input_ids'].shape[1]
    print(f'max_seq_length {model.max_seq_length}, {kept} words kept of four')
    before = model.encode('red', show_progress_bar=False).tolist()
    WordEmbeddings.from_text_file(str(files[1]))
    after = model.encode('red', show_progress_bar=False).tolist()
    print(f"'red' of the first model: {before}, and once a second model was read: {after}")
assert kept == 4, 'changed: texts are cut'
assert before == [1, 0, 0] and after == [0, 1, 0], 'changed: models have tokenizers of their own'
EOF
