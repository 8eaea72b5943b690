# python tools/train.py configs/evaluation/vqa.py
# Zero-shot VQA on VQA v2, and entailment on SNLI-VE (docs/vqa.md says where both come from).
_base_ = ['../_base_/tasks/vqa.py']
runner_type = 'ProbeRunner'

# CLIP's ViT-B/32 (Radford et al. 2021, arXiv:2103.00020); allow_network=True fetches the weights.
encoders = dict(clip_vit_b32=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32-quickgelu', tag='openai'),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32-quickgelu', tag='openai')))
