# python tools/train.py configs/probing/conse_lite0-minilm_photos.py
# Zero-shot 0.443, mAP 0.425 (docs/alignment.md).
_base_ = ['../_base_/encoders/bare_machine.py']
runner_type = 'ProbeRunner'

# An image folder, {train,test}/<class>/*.jpg.
data = dict(test=dict(type='ImageFolder', root='data/photos/test'))
tasks = [dict(type='ZeroShot', name='zero_shot', templates=['a photo of a {}.']),
         dict(type='ClassRetrieval', name='class_retrieval', templates=['a photo of a {}.'])]
