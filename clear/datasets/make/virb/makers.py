"""Name of a data set -> the function that makes its folder; its docstring says from what."""

from __future__ import annotations

from clear.datasets.make.virb import annotated, classes, hands, nyu, panoptic, pixelwise
from clear.datasets.make.virb.layout import Maker

MAKERS: dict[str, Maker] = {
    'imagenet': classes.imagenet, 'imagenetv2': classes.imagenet_v2, 'pets': classes.pets,
    'caltech101': classes.caltech101, 'cifar100': classes.cifar100, 'sun397': classes.sun397,
    'eurosat': classes.eurosat, 'dtd': classes.dtd, 'kinetics': annotated.kinetics, 'nuscenes': annotated.nuscenes,
    'thor_egomotion': annotated.thor_egomotion, 'thor_num_steps': annotated.thor_num_steps, 'clevr': annotated.clevr,
    'pets_detection': pixelwise.pets_detection, 'egohands': hands.egohands, 'cityscapes': pixelwise.cityscapes,
    'thor_depth': pixelwise.thor_depth, 'nyu': nyu.nyu, 'taskonomy': pixelwise.taskonomy, 'kitti': pixelwise.kitti,
    'coco': panoptic.coco, 'voc2012': pixelwise.voc2012, 'ade20k': pixelwise.ade20k}
