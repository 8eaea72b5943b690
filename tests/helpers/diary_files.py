"""What the readers of docs/from/ bring: pairs of ITRA, YAML files of ViRB and the weights that they name."""

import torch
import torchvision

EXPERIMENTS = "mine: 'pretrained_weights/mine.pt'\n"
TASKS = '''
Eurosat:
  task: "Eurosat"
  training_configs:
    adam-0.0001:
      optimizer: "adam"
      lr: 0.0001
  num_epochs: 200
  batch_size: 32
THORDepth:
  task: "THORDepth"
  pre_encode: false
  training_configs:
    adam-0.0003-l1:
      optimizer: "adam"
      lr: 0.0003
  num_epochs: 50
  batch_size: 16
  test_batch_size: 2
'''


def write_pairs(root, images):
    """A table of captions and images, as ITRA reads it: between tabs, paths below its folder."""
    root.mkdir(parents=True)
    rows = ['title\tfilepath']
    for path in images:
        (root / path.name).write_bytes(path.read_bytes())
        rows.append(f'a photo of the number {path.parent.name}\t{path.name}')
    (root / 'pairs.csv').write_text('\n'.join(rows) + '\n')


def write_study(root):
    """Two YAML files in `root/virb`, and weights of a ResNet-50 under the names of torchvision, in half precision."""
    (root / 'virb').mkdir()
    (root / 'virb' / 'experiments.yaml').write_text(EXPERIMENTS)
    (root / 'virb' / 'tasks.yaml').write_text(TASKS)
    (root / 'pretrained_weights').mkdir()
    with torch.device('meta'):
        empty = torchvision.models.resnet50().state_dict()
    torch.save({name: torch.zeros(value.shape, dtype=torch.float16 if value.is_floating_point() else value.dtype)
                for name, value in empty.items()}, root / 'pretrained_weights' / 'mine.pt')
