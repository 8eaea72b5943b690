"""The data set as a CLEAR tree: images by bucket and class, metadata, splits, features."""
