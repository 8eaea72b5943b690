# python tools/train.py configs/evaluation/feature_analysis_demo.py
# How the space of two towers looks: spread, gap, clusters and maps, of drawn scenes and their captions. As shipped the
# towers have random weights; give it those of a run of configs/alignment/clip_tiny-vit_1xb64-cos-16e_scenes.py:
#   --cfg-options encoders.tiny.weights=work_dirs/clip_tiny-vit_1xb64-cos-16e_scenes/epoch_16.pth
runner_type = 'ProbeRunner'
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(tiny=dict(type='AlignedEncoder', weights=None, model=dict(
    type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True))))
data = dict(test=dict(type='ImageTextTable', path='data/scenes/pairs.csv', merge=True))
tasks = [dict(type='FeatureAnalysis', name='space', num_clusters=12, tsne_rows=300),
         # ProtoCLIP's definition of self-similarity (arXiv:2206.10996).
         dict(type='FeatureAnalysis', name='legacy', legacy=True, tsne_rows=0)]
threads = 1
