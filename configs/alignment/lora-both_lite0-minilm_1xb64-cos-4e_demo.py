# python tools/train.py configs/alignment/lora-both_lite0-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# LoRA (Hu et al. 2021, arXiv:2106.09685) on both of two pretrained towers: on the last blocks' convolutions of 1 x 1
# pixels of EfficientNet-Lite0, by this framework, and on MiniLM's queries and values, by the library `adapters`.
model = dict(
    image_encoder=dict(
        _delete_=True, type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
        preprocess=dict(resize=64, crop=64, mean=[0.5] * 3, std=[0.5] * 3),
        trainable=dict(lora=dict(rank=8, alpha=16, targets=['blocks.5.*', 'blocks.6.*', 'conv_head']))),
    text_encoder=dict(adapter='lora_adapter'), image_head=dict(_delete_=True, type='ProjectionMLP', num_layers=1),
    loss=dict(type='InfoNCELoss'))
train_dataloader = dict(dataset=dict(transform=[dict(type='Resize', size=64), dict(type='ToTensor'), dict(
    type='Normalize', mean=[0.5] * 3, std=[0.5] * 3)]))
