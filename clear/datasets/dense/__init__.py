"""Images with a target for every pixel: classes, masks, depth, flow."""

from clear.datasets.dense.recipe import DenseRecipe
from clear.datasets.dense.samples import DenseBatch, DenseSample, DenseSamples, batches
from clear.datasets.dense.targets import VOID, DenseTable, Target

__all__ = ['VOID', 'DenseBatch', 'DenseRecipe', 'DenseSample', 'DenseSamples', 'DenseTable', 'Target', 'batches']
