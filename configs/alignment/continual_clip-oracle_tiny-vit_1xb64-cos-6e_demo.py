# python tools/train.py configs/alignment/continual_clip-oracle_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-restart_tiny-vit_1xb64-cos-6e_demo.py']

# All pairs so far, each time from the first weights, and every pair once an epoch: iterations grow with the stream,
# Oracle of TiC-CLIP.
train_dataloader = dict(sampler=dict(_delete_=True, type='EpochSampler'))
