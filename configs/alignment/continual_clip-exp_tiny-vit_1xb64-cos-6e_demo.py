# python tools/train.py configs/alignment/continual_clip-exp_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-replay_tiny-vit_1xb64-cos-6e_demo.py']

# With as many earlier pairs as a bucket has, a half of them of the bucket before, a fourth of the one before that, and
# so on: Cumulative-Exp of TiC-CLIP.
stream = dict(replay_shares='halves')
