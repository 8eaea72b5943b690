# python tools/train.py configs/alignment/distil-simreg_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# SimReg (Navaneet et al. 2022, arXiv:2201.05131) across modalities, as in ITRA.
