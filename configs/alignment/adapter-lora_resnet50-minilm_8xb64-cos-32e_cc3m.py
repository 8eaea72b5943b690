# bash tools/dist_train.sh configs/alignment/adapter-lora_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# LoRA (Hu et al. 2021, arXiv:2106.09685) on MiniLM's queries and values, r 8, alpha 16; the ResNet trains whole. The
# other adapters are text_encoder.adapter, as in their demos.
model = dict(text_encoder=dict(adapter='lora_adapter'), loss=dict(type='InfoNCELoss'))
