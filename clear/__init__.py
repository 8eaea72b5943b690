"""`clear`: learning from images and text over time, from configs."""

__version__ = '0.1.0'
