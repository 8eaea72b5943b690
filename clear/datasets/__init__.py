"""Readers of data sets, their images, and transforms."""

from clear.datasets.bad_samples import BadSampleError, BadSamples
from clear.datasets.bucket_lists import BucketChoice
from clear.datasets.clear import ClearData, read_clear
from clear.datasets.clear_layouts import Bucket
from clear.datasets.decode import ImageDecoder, UnreadableImage, decode_image
from clear.datasets.evaluation_images import EvaluationImages, read_evaluation_images
from clear.datasets.images import BucketDataset, SampleContext
from clear.datasets.pipeline import ImagePipeline
from clear.datasets.replayed_buckets import ReplayedBuckets
from clear.datasets.samplers import EpochSampler, GlobalBatchSampler
from clear.datasets.self_supervised import BucketImages, FolderImages, ListImages, SelfSupervisedImages, TableImages
from clear.datasets.tensors import to_tensors
from clear.datasets.transforms import ImageTransform, build_transform

__all__ = ['BadSampleError', 'BadSamples', 'Bucket', 'BucketChoice', 'BucketDataset', 'BucketImages', 'ClearData',
           'EpochSampler', 'EvaluationImages', 'FolderImages', 'GlobalBatchSampler', 'ImageDecoder', 'ImagePipeline',
           'ImageTransform', 'ListImages', 'ReplayedBuckets', 'SampleContext', 'SelfSupervisedImages', 'TableImages',
           'UnreadableImage', 'build_transform', 'decode_image', 'read_clear', 'read_evaluation_images', 'to_tensors']
