# python tools/train.py configs/probing/suites/all.py
_base_ = ['./image_level.py']

# All end tasks of ViRB (Kotar et al. 2021, arXiv:2103.14005), those of its code that the paper leaves out, and DINOv2's
# linear heads on pixels, with the encoders of image_level.py. --shard 0/8 ... 7/8 share them between machines.
tasks = [dict(suite='probing/suites/image_level.py'), dict(suite='probing/suites/pixelwise.py')]
