# python tools/train.py configs/alignment/continual_clip-ewc_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# Weights that mattered to the buckets before are held: EWC of TiC-CLIP. Importance is the squared gradient of the
# loss of batches of 64, summed over buckets. The weight is ours, not swept; in bucket 2 it holds nothing
# (a loss of 3e-6), since towers that have learnt nothing yet in bucket 1 have gradients near 0.
stream = dict(ewc=dict(weight=100.0, batch_size=64, num_batches=16))
