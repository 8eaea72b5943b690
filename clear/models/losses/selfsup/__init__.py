"""Losses of self-supervised learning, one a file."""
