# Conformer-small, patches of 16 px (Peng et al. 2021, arXiv:2105.03889). Widths are those of the convolution and
# of the attention branch, whose logits are added.
model = dict(
    backbone=dict(type='Conformer', arch='small', drop_path_rate=0.1),
    head=dict(type='ConformerHead', num_classes=1000, in_channels=[1024, 384]),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)])
