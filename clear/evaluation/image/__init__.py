"""Tasks on images or their features."""
