# python tools/train.py configs/alignment/continual_clip-lwf_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# With the scores of the pair of the bucket before as soft targets (open_clip's DistillClipLoss): LwF of TiC-CLIP.
stream = dict(mode='distil', distil=dict(logits=1.0))
