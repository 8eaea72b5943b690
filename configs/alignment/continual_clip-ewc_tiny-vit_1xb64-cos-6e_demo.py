# python tools/train.py configs/alignment/continual_clip-ewc_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['./continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py']

# Weights that mattered to the buckets before are held: EWC of TiC-CLIP. Importance is the squared gradient of the
# loss of batches of 64, summed over buckets. The weight is ours: of 3e3, 1e4, 3e4, 1e5 and 3e5 the one with the best
# zero-shot on all buckets so far, on a fourth of the training digits that was set aside (three buckets).
stream = dict(ewc=dict(weight=1e4, batch_size=64, num_batches=16))
