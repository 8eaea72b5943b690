# python tools/train.py configs/alignment/continual_clip-replay_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# With as many earlier pairs as a bucket has, a reservoir that is drawn alike from all earlier pairs.
stream = dict(mode='replay', replay_size=1262)
