# python tools/train.py configs/evaluation/itra_all.py
# All that the earlier system measured, of one pair, in one table: zero-shot, retrieval, sentences, words, passages,
# probes and ELEVATER. Tasks whose data are not there fail alone; docs/evaluation.md says which pages have the sources.
# Passages and the searches of ELEVATER take hours of a GPU: leave out their lines to do without.
_base_ = ['../_base_/encoders/clip_rn50_pair.py']
runner_type = 'ProbeRunner'

tasks = [
    dict(suite='evaluation/zero_shot_itra.py'),
    dict(suite='evaluation/retrieval.py'),
    dict(suite='evaluation/language.py'),
    # ITRA probes the towers as they are, without heads, on CIFAR-10.
    dict(suite='_base_/tasks/itra.py', features='backbone',
         data=dict(train=dict(type='TorchVision', dataset='CIFAR10', root='data', train=True),
                   test=dict(type='TorchVision', dataset='CIFAR10', root='data', train=False))),
    dict(suite='evaluation/elevater.py'),
]
