"""Classifying files with a trained checkpoint: of continual runs on images or features, and of ordinary classifiers."""
