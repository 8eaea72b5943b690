# python tools/train.py configs/alignment/adapter-unipelt_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# UniPELT (Mao et al. 2021, arXiv:2110.07577): LoRA, prefixes and adapters, each behind a gate.
model = dict(text_encoder=dict(adapter='unipelt'), loss=dict(type='InfoNCELoss'))
