# Zero-shot classification with lists that no package has; tools/dataset_converters/prompt_tables.py writes them from a
# copy of CLIP, see docs/zero_shot.md.
_file = 'data/prompts/clip.json'
tasks = [
    # match='name' takes the names in the order of the folders, and of some of them, as where Birdsnap lacks nine.
    dict(type='ZeroShot', name='birdsnap', names=dict(file=_file, list='Birdsnap'), match='name',
         data=dict(test=dict(type='ImageFolder', root='data/birdsnap/test'))),
    dict(type='ZeroShot', name='ucf101', names=dict(file=_file, list='UCF101'), match='name',
         data=dict(test=dict(type='ImageFolder', root='data/ucf101/test'))),
    dict(type='ZeroShot', name='kinetics700', names=dict(file=_file, list='Kinetics700'), match='name',
         data=dict(test=dict(type='ImageFolder', root='data/kinetics700/test'))),
    dict(type='ZeroShot', name='resisc45', names=dict(file=_file, list='RESISC45'), match='name',
         data=dict(test=dict(type='ImageFolder', root='data/resisc45/test'))),
    dict(type='ZeroShot', name='clevr_counts', names=dict(file=_file, list='CLEVRCounts'), match='name',
         data=dict(test=dict(type='ImageFolder', root='data/clevr_counts/test'))),
]
