# python tools/train.py configs/alignment/continual_clip-patching_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# A bucket ends half-way between the weights it began with and those it trained: Patching of TiC-CLIP.
stream = dict(interpolate=0.5)
