# python tools/train.py configs/evaluation/feature_analysis_demo.py
# How the space of two towers looks: spread, gap, clusters and maps, of drawn scenes and their captions. As shipped the
# towers have random weights; give it those of a run of configs/alignment/clip_tiny-vit_1xb64-cos-16e_scenes.py:
#   --cfg-options encoders.tiny.weights=work_dirs/clip_tiny-vit_1xb64-cos-16e_scenes/epoch_16.pth
_base_ = ['../_base_/encoders/tiny_aligned.py']
runner_type = 'ProbeRunner'
data = dict(test=dict(type='ImageTextTable', path='data/scenes/pairs.csv', merge=True))
tasks = [dict(type='FeatureAnalysis', name='space', num_clusters=12, tsne_rows=300),
         # ProtoCLIP's definition of self-similarity (arXiv:2206.10996).
         dict(type='FeatureAnalysis', name='legacy', legacy=True, tsne_rows=0)]
threads = 1
