"""Readers of data sets, their images, and transforms."""

from clear.datasets.bad_samples import BadSampleError, BadSamples
from clear.datasets.clear import ClearData, read_clear
from clear.datasets.clear_layouts import Bucket
from clear.datasets.decode import ImageDecoder, UnreadableImage, decode_image
from clear.datasets.images import BucketDataset, SampleContext
from clear.datasets.pipeline import ImagePipeline
from clear.datasets.tensors import to_tensors
from clear.datasets.transforms import ImageTransform, build_transform

__all__ = ['BadSampleError', 'BadSamples', 'Bucket', 'BucketDataset', 'ClearData', 'ImageDecoder', 'ImagePipeline',
           'ImageTransform', 'SampleContext', 'UnreadableImage', 'build_transform', 'decode_image', 'read_clear',
           'to_tensors']
