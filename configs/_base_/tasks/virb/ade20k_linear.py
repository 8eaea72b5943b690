# ADE20K (Zhou et al. 2017), the 150 classes of its challenge: one linear layer on the last map, as DINOv2's
# evaluation has it (Oquab et al. 2023, arXiv:2304.07193, sec. 7.4, and its configs): adamw, 1e-3, 40,000 iterations of
# 16, poly 1.0; windows of 512 pixels slide over images with a shorter side of 512, compared at the size of the truth.
# Left out: the warm-up, and the limit on the share of one class in a crop. Colours are torchvision's jitter at about
# mmsegmentation's strengths. Of a plain transformer every token of the last block is read.
tasks = [dict(
    type='PixelwiseProbe', name='ade20k_linear', level='pixel', kind='semantic', seeds=3,
    head=dict(type='LinearPixelHead'), loss=dict(type='cross_entropy'), metric='miou',
    recipe=dict(size=512, scale=(0.5, 2.0), mirror=0.5, crop=512, jitter=(0.125, 0.5, 0.5, 0.1)),
    test_recipe=dict(size=512, target_at='original'), inference=dict(window=512, stride=341),
    settings={'adamw_1e-3': dict(optimizer='adamw', lr=1e-3, weight_decay=1e-4, schedule=dict(type='poly', power=1.0))},
    epochs=35, batch_size=16, test_batch_size=4,
    data=dict(train=dict(type='ADE20K', root='data/ADEChallengeData2016', split='train'),
              test=dict(type='ADE20K', root='data/ADEChallengeData2016', split='val')))]
