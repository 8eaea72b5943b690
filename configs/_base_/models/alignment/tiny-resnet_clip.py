# A ResNet-18 with half its channels for images of 32 pixels and a small text tower of open_clip's class, random weights.
model = dict(
    type='ImageTextAlignment',
    image_encoder=dict(
        type='MMPretrainEncoder', trainable=True, preprocess=dict(resize=32, crop=32),
        backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32, strides=(2, 2, 2, 2)),
        neck=dict(type='GlobalAveragePooling')),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', trainable=True, model_args=dict(
        embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=1, patch_size=8, image_size=32),
        text_cfg=dict(width=64, heads=4, layers=2, context_length=16))),
    image_head=dict(type='ProjectionMLP', num_layers=1), loss=dict(type='InfoNCELoss'))
