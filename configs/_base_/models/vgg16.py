# VGG-16, for images of 224 px (Simonyan and Zisserman 2014, arXiv:1409.1556).
# Its classifier of three layers is part of the backbone: backbone.num_classes is the number of classes.
model = dict(
    backbone=dict(type='VGG', depth=16, num_classes=1000))
