# Twins-PCPVT-base (Chu et al. 2021, arXiv:2104.13840).
model = dict(
    backbone=dict(
        type='PCPVT', arch='base', out_indices=(3,), qkv_bias=True, norm_cfg=dict(type='LN', eps=1e-6),
        norm_after_stage=[False, False, False, True], drop_path_rate=0.3),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)])
