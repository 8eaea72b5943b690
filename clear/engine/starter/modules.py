"""An example of a module of one's own for each kind of run: `own.py`, which the first config imports."""

MODULES = {
    'transform': '''"""A transform of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

import torch
from torchvision.transforms.v2 import functional

from clear.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Shift:
    """Moves an image by up to `pixels` to each side; what comes in is black."""

    def __init__(self, pixels: int = 2):
        self.pixels = pixels

    def __call__(self, image):
        # torch, NumPy and random are seeded for each sample: draw from these.
        shift = torch.randint(-self.pixels, self.pixels + 1, (2,)).tolist()
        return functional.affine(image, angle=0, translate=shift, scale=1, shear=[0, 0])
''',
    'hook': '''"""A hook of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

import torch
from mmengine.hooks import Hook

from clear.registry import HOOKS


@HOOKS.register_module()
class WeightNorm(Hook):
    """Logs the norm of the encoder's weights at the end of every epoch; `evaluated` is the encoder of any method."""

    priority = 'NORMAL'  # before the hook that writes the log

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.end_of_epoch(runner.train_dataloader, batch_idx):
            norms = [weight.detach().norm() for weight in runner.bare_model.evaluated.parameters()]
            runner.message_hub.update_scalar('train/weight_norm', torch.stack(norms).norm().item())
''',
    'loss': '''"""A loss of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

import torch
import torch.nn.functional as F

from clear.core.dist import gather_rows
from clear.models.losses.pair_loss import PairLoss
from clear.registry import MODELS


@MODELS.register_module()
class FindText(PairLoss):
    """Find the text (the teacher) of each image (the student) among those of the batch: one half of CLIP's loss.

    Shape:
        teacher, student: (N, D)   returns: ()
    """

    uses_logit_scale = True

    def compare(self, teacher, student, given):
        # The rows of all processes, so that several compute what one does.
        teacher, student = (F.normalize(gather_rows(each), dim=1) for each in (teacher, student))
        logits = given.logit_scale * student @ teacher.T  # (N, D) @ (D, N) -> (N, N)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
''',
    'task': '''"""A task of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

import torch.nn.functional as F

from clear.evaluation import TaskResult, read_splits
from clear.registry import TASKS


@TASKS.register_module()
class Alikeness:
    """Mean cosine between each test image and the mean of its class in the training images, by their features."""

    needs = ('bank',)

    def run(self, encoder, data) -> TaskResult:
        splits = read_splits(data.bank)
        train, test = splits.train, splits.test
        sums = F.one_hot(train.labels).T.float() @ train.features.float()  # (classes, D)
        cosines = F.cosine_similarity(test.features.float(), sums[test.labels], dim=1)  # (N,)
        value = cosines.mean().item()
        return TaskResult('cosine', value, extras=dict(metrics=dict(cosine=value), n_test=len(cosines)))
''',
    'texts': '''"""A task of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

import torch.nn.functional as F

from clear.evaluation import TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class NameSpread:
    """Mean cosine between the names of two classes: the lower, the easier they are told apart."""

    needs = ('text_encoder',)

    def __init__(self, names: list[str]):
        self.names = names

    def run(self, encoder, data) -> TaskResult:
        features = F.normalize(encoder.encode_text(self.names).float(), dim=1)  # (classes, D)
        cosines = features @ features.T
        count = len(features)
        value = ((cosines.sum() - cosines.trace()) / (count * (count - 1))).item()
        return TaskResult('cosine', value, False, dict(metrics=dict(cosine=value), n_test=count))
''',
    'stage': '''"""A stage of my own: a config with `custom_imports = dict(imports=['own'])` knows it."""

from clear.curation.buckets.stage import TimeBuckets
from clear.registry import STAGES


@STAGES.register_module()
class EqualBuckets(TimeBuckets):
    """Images by the clock of the camera, cut into buckets of one size: what all my streams have in common."""

    def __init__(self, buckets: int = 5):
        super().__init__(dict(type='Equal', buckets=buckets), of='images', by='taken_at')
''',
}
