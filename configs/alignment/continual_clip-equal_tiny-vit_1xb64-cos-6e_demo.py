# python tools/train.py configs/alignment/continual_clip-equal_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-replay_tiny-vit_1xb64-cos-6e_demo.py']

# With as many earlier pairs as a bucket has, equally many of each earlier bucket: Cumulative-Equal of TiC-CLIP.
stream = dict(replay_shares='equal')
