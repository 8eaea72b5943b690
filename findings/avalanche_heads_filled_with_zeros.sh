#!/usr/bin/env bash
# Avalanche 0.6.0, MultiHeadClassifier of two tasks of two classes each (classes 0-1 and 2-3), as SplitMNIST with
# return_task_id=True makes it.
# Expected: a sample of the first task gets one of its classes, or the mask where a class is not the task's.
# Seen: the head of the first task has 2 units, the batch is filled up to 4 columns with zeros. Where both logits of the
# head are below 0 the answer is class 2, of the other task; cross-entropy counts the two units that do not exist.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 avalanche-lib==0.6.0
"$folder/env/bin/python" -W ignore - <<'EOF'
import torch
from avalanche.benchmarks import dataset_benchmark
from avalanche.benchmarks.utils import _make_taskaware_tensor_classification_dataset as make
from avalanche.models import MultiHeadClassifier
from avalanche.models.utils import avalanche_model_adaptation

inputs = torch.ones(4, 1)
parts = [make(inputs, torch.tensor([low, low + 1] * 2), task_labels=[task] * 4)
         for task, low in ((0, 0), (1, 2))]
heads = MultiHeadClassifier(in_features=1)
for experience in dataset_benchmark(parts, parts).train_stream:
    avalanche_model_adaptation(heads, experience)
with torch.no_grad():
    heads.classifiers['0'].classifier.weight.copy_(torch.tensor([[-1.0], [-2.0]]))
    heads.classifiers['0'].classifier.bias.zero_()
logits = heads(inputs[:1], torch.tensor([0]))
loss = float(torch.nn.functional.cross_entropy(logits, torch.tensor([0])))
alone = float(torch.nn.functional.cross_entropy(torch.tensor([[-1.0, -2.0]]), torch.tensor([0])))
print(f'logits of a sample of task 0: {logits.tolist()[0]}, answer: class {int(logits.argmax())}')
print(f'cross-entropy {loss:.3f}, of the two classes of the task {alone:.3f}')
assert int(logits.argmax()) == 2 and loss > alone + 1, 'changed: heads of fewer units are not filled up with zeros'
EOF
