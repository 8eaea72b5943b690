"""Data sets for training and evaluation, and the order in which they are read."""
