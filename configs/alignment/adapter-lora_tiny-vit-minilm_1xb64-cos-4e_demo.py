# python tools/train.py configs/alignment/adapter-lora_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# LoRA (Hu et al. 2021, arXiv:2106.09685) on MiniLM's queries and values, r 8, alpha 16. It can be merged.
model = dict(text_encoder=dict(adapter='lora_adapter'), loss=dict(type='InfoNCELoss'))
