# python tools/train.py configs/evaluation/demo.py
# The demo's digits by two towers that were never trained, so chance: it shows every kind of result in half a minute.
# After configs/alignment/clip_tiny-vit_1xb64-cos-4e_demo.py a trained pair stands beside them:
#   --cfg-options encoders.clip.run=work_dirs/clip_tiny-vit_1xb64-cos-4e_demo
_base_ = ['../_base_/encoders/tiny_pair.py']
runner_type = 'ProbeRunner'
encoders = dict(
    random=dict(info=dict(method='random')),
    # Two encoders that never met, joined by a head; give it weights=FILE.
    joined=dict(image_encoder=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32)),
                text_encoder={{_base_.encoders.random.text_encoder}}, image_head=dict(type='ProjectionMLP'),
                info=dict(method='random')))

_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_templates = ['a photo of the number {}.', 'the digit {}.', 'a handwritten {}.']
# All buckets of the demo show the same digits: these lists of one bucket share none.
_split = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
data = dict(
    train=dict(type='PromptedClassification', names=_names, templates=_templates,
               images=dict(type='FileList', path=f'{_split}/train.txt', root='data/demo')),
    test=dict(type='PromptedClassification', names=_names, templates=_templates,
              images=dict(type='FileList', path=f'{_split}/test.txt', root='data/demo')))
tasks = [
    dict(type='ZeroShot', name='zero_shot', names=_names, templates=_templates),
    # Images of a digit share their captions: the mean over the orders of equal ones, where the worst case is 0.
    dict(type='ImageTextRetrieval', name='retrieval', ks=[1, 5, 10], ties='expected'),
    dict(type='ClassRetrieval', name='class_retrieval', names=_names, templates=_templates),
    dict(type='SentenceSimilarity', name='sts', path='configs/evaluation/demo_pairs.tsv'),
    dict(type='FeatureAnalysis', name='features', num_clusters=10, tsne_rows=200),
    dict(type='KNN', name='knn', k=5),
    # The tower of the joined pair without its head, as probes usually take it.
    dict(type='LinearProbe', name='linear_backbone', lrs=[0.1], seeds=1, epochs=10, features='backbone'),
]
threads = 1
