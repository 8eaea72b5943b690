"""Readers of data sets, their images, and transforms."""

from clear.datasets.buckets import Bucket
from clear.datasets.images.bad_samples import BadSampleError, BadSamples
from clear.datasets.images.decode import ImageDecoder, UnreadableImage, decode_image
from clear.datasets.images.pipeline import ImagePipeline
from clear.datasets.loaders.buckets import BucketDataset, SampleContext
from clear.datasets.loaders.evaluation import EvaluationImages, read_evaluation_images
from clear.datasets.loaders.pairs import ImageTextPairs
from clear.datasets.loaders.replayed_buckets import ReplayedBuckets
from clear.datasets.loaders.samplers import EpisodicSampler, EpochSampler, GlobalBatchSampler
from clear.datasets.loaders.self_supervised import SelfSupervisedImages
from clear.datasets.loaders.shard_order import ShardBatchSampler, ShardSampler
from clear.datasets.loaders.shards import WebDatasetPairs
from clear.datasets.loaders.tensors import to_tensors
from clear.datasets.readers.bucket_lists import BucketChoice
from clear.datasets.readers.build import read_images
from clear.datasets.readers.clear.clear import ClearData, read_clear
from clear.datasets.table import ImageTable
from clear.datasets.transforms import ImageTransform, build_transform

__all__ = ['BadSampleError', 'BadSamples', 'Bucket', 'BucketChoice', 'BucketDataset', 'ClearData', 'EpisodicSampler',
           'EpochSampler', 'EvaluationImages', 'GlobalBatchSampler', 'ImageDecoder', 'ImagePipeline', 'ImageTable',
           'ImageTextPairs', 'ImageTransform', 'ReplayedBuckets', 'SampleContext', 'SelfSupervisedImages',
           'ShardBatchSampler', 'ShardSampler', 'UnreadableImage', 'WebDatasetPairs', 'build_transform',
           'decode_image', 'read_clear', 'read_evaluation_images', 'read_images', 'to_tensors']
