# LARS (You et al. 2017, arXiv:1708.03888), ten epochs of linear warm-up, then a cosine by iteration. Biases and
# BatchNorm have neither weight decay nor adaptation; in our necks and predictors BatchNorm is layers.1 and layers.4.
# The rate stands outside the momentum, as in the codes of Barlow Twins, VICReg and BYOL; mmpretrain's LARS, as the
# paper, has it inside, so that after the rate drops momentum still moves by the old one.
_plain = dict(decay_mult=0.0, lars_exclude=True)
optim_wrapper = dict(
    optimizer=dict(type='PublishedLARS', lr=0.3, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(custom_keys={
        'bn': _plain, 'bias': _plain, 'downsample.1': _plain, 'neck.layers.1.': _plain, 'neck.layers.4.': _plain,
        'predictor.layers.1.': _plain}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=190, by_epoch=True, begin=10, end=200, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=200)
auto_scale_lr = dict(base_batch_size=256)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=10, max_keep=3))
