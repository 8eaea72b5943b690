# python tools/train.py configs/evaluation/bare_machine_photos.py
# The pair that needs no download on every task of photographs in folders, data/photos/{train,test}/<class>/<image>;
# docs/evaluation.md has the figures. Photographs that lie elsewhere:
#   --cfg-options data.train.images.root=photos/train data.test.images.root=photos/test
_base_ = ['../_base_/encoders/bare_machine.py']
runner_type = 'ProbeRunner'

_template = 'a photo of a {}.'
data = {split: dict(type='PromptedClassification', templates=[_template],
                    images=dict(type='ImageFolder', root=f'data/photos/{split}')) for split in ('train', 'test')}
tasks = [
    dict(type='ZeroShot', name='zero_shot', templates=[_template]),
    dict(type='ClassRetrieval', name='class_retrieval', templates=[_template]),
    # All images of a class share their caption: the mean over the orders of equal ones. Whoever knows the classes of
    # 1,000 images of ten finds 0.01, 0.1 and 1.
    dict(type='ImageTextRetrieval', name='retrieval', ks=[1, 10, 100], ties='expected'),
    dict(type='FeatureAnalysis', name='space', num_clusters=10),
    # Without texts: how well the embeddings of images tell the classes apart, by labels of other images or by none.
    dict(type='Clustering', name='clusters'),
    dict(type='KNN', name='knn', k=20, temperature=0.07),
    dict(type='LinearProbe', name='linear'),
]
