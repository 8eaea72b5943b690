# python tools/train.py configs/alignment/continual_clip-cumulative_tiny-vit_1xb64-cos-2e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-2e_demo.py']

# All pairs so far in every epoch, from the last weights: Cumulative-All of TiC-CLIP.
stream = dict(mode='replay', replay_size='all')
