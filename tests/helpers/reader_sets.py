"""Data sets for pretraining of the readers that tests use most."""

from clear.datasets.loaders.of_readers import dataset_of


def folder_images(data_root, **options):
    return dataset_of('FolderImages')(data_root=data_root, **options)


def bucket_images(data_root, **options):
    return dataset_of('BucketImages')(data_root=data_root, **options)
