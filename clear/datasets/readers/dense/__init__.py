"""Data sets with a target for every pixel, each in the layout in which the probing suite finds it."""
