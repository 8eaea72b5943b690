# python tools/train.py configs/probing/suites/pixelwise.py
_base_ = ['./image_level.py']

# The pixelwise tasks of ViRB (Kotar et al. 2021, arXiv:2103.14005), three of its code that the paper leaves out, and
# DINOv2's linear heads on VOC 2012 and ADE20K, with the encoders of image_level.py. Each head is chosen on a tenth of
# the training images (EgoHands: on its own four videos) and tested once, with three seeds. docs/virb.md says where each
# data set comes from, docs/dense_metrics.md what the numbers mean.
_names = ['pets_detection', 'egohands', 'cityscapes', 'thor_depth', 'nyu_depth', 'nyu_walkable', 'taskonomy_depth',
          'kitti_flow', 'taskonomy_edges', 'taskonomy_inpainting', 'coco_detection', 'voc2012_linear', 'ade20k_linear']
tasks = [dict(suite=f'_base_/tasks/virb/{name}.py') for name in _names]
