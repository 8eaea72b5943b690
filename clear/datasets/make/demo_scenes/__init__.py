"""Rendered scenes with their ground truth, in the folder layouts of the probing suite's data sets."""

from clear.datasets.make.demo_scenes.render import Body, Camera, Scene, View, optical_flow, render
from clear.datasets.make.demo_scenes.world import LAYOUTS, write_demo_scenes, write_sample

__all__ = ['LAYOUTS', 'Body', 'Camera', 'Scene', 'View', 'optical_flow', 'render', 'write_demo_scenes', 'write_sample']
