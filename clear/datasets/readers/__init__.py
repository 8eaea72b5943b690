"""What is on a disk, as lists of images with their labels, times and buckets."""
