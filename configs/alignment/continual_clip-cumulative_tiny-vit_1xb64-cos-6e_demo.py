# python tools/train.py configs/alignment/continual_clip-cumulative_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# Batches of all pairs so far, from the last weights: Cumulative-All of TiC-CLIP.
stream = dict(mode='replay', replay_size='all')
