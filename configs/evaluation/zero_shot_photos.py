# python tools/train.py configs/evaluation/zero_shot_photos.py
# Prompts compared on photographs, by the pair that needs no download (docs/zero_shot.md has the figures). A pair that
# was trained: --cfg-options encoders.clip.run=work_dirs/clip_photos
_base_ = ['../probing/conse_lite0-minilm_photos.py']

# The six in which the aligned pairs of configs/alignment/*_photos.py were trained.
_six = ['a photo of a {}.', 'a blurry photo of a {}.', 'a low resolution picture of the {}.', 'there is a {}.',
        'a close-up of one {}.', 'a {} in the wild.']
tasks = [
    dict(type='ZeroShot', name='names_alone', templates=['{}']),
    dict(type='ZeroShot', name='one_template', templates=['a photo of a {}.']),
    dict(type='ZeroShot', name='six_templates', templates=_six),
    # 18 templates of CLIP for CIFAR-10, by either average.
    dict(type='ZeroShot', name='cifar10', templates='cifar10'),
    dict(type='ZeroShot', name='cifar10_raw', templates='cifar10', prompt_average='raw'),
    # The 80 of ImageNet.
    dict(type='ZeroShot', name='imagenet', templates='imagenet'),
    dict(type='ClassRetrieval', name='class_retrieval', templates='cifar10'),
]
