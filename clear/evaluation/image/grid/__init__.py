"""Heads that are trained together: one stack of them over shared batches, with the gradient written out."""
