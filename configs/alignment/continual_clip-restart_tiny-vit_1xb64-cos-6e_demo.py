# python tools/train.py configs/alignment/continual_clip-restart_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-cumulative_tiny-vit_1xb64-cos-6e_demo.py']

# All pairs so far, each time from the first weights, with the iterations of one bucket: Restart of TiC-CLIP.
stream = dict(start='first')
