# MLP-Mixer-base, patches of 16 px (Tolstikhin et al. 2021, arXiv:2105.01601), for 224 px; mean over tokens.
model = dict(
    backbone=dict(type='MlpMixer', arch='b', img_size=224, patch_size=16, drop_rate=0.1),
    neck=dict(type='GlobalAveragePooling', dim=1),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768))
