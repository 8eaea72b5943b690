"""Continual learning: scenarios, strategies under one mix-in, state, metrics."""
