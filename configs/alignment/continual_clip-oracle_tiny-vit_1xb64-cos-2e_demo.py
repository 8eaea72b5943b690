# python tools/train.py configs/alignment/continual_clip-oracle_tiny-vit_1xb64-cos-2e_demo.py
_base_ = ['./continual_clip-cumulative_tiny-vit_1xb64-cos-2e_demo.py']

# All pairs so far, each time from the first weights: as many epochs whatever the stream's length, Oracle of TiC-CLIP.
stream = dict(start='first')
