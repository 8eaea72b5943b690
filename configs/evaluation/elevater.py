# python tools/train.py configs/evaluation/elevater.py
# ELEVATER's twenty sets (Li et al. 2022, arXiv:2204.08790) through zero-shot, and 5, 20, 50 and all shots of both a
# linear layer and fine-tuning, the latter with one rate and two.
# Sets that are not below data/elevater fail alone (docs/elevater.md says where they come from).
runner_type = 'ProbeRunner'

# OpenAI's weights out of open_clip's cache; allow_network=True in both fetches them.
encoders = dict(clip_vit_b32=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32-quickgelu', tag='openai'),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32-quickgelu', tag='openai')))
# Class names are those of the data. Templates are those of the package clip-benchmark: of PatchCamelyon it has 2, of
# RESISC45 4, of hateful memes none, where the toolkit has 1, 18 and 1. tools/dataset_converters/prompt_tables.py reads
# the toolkit's own names and templates; then names=dict(file='x.json', list='...'), and templates likewise.
_templates = {
    'caltech-101': 'caltech101', 'cifar-10': 'cifar10', 'cifar-100': 'cifar100', 'country211': 'country211',
    'dtd': 'dtd', 'eurosat_clip': 'eurosat', 'fer-2013': 'fer2013', 'fgvc-aircraft-2013b-variants102': 'fgvc_aircraft',
    'oxford-flower-102': 'flowers', 'food-101': 'food101', 'gtsrb': 'gtsrb', 'hateful-memes': ['a {}.'],
    'kitti-distance': ['{}'], 'mnist': 'mnist', 'oxford-iiit-pets': 'pets', 'patch-camelyon': 'pcam',
    'rendered-sst2': 'renderedsst2', 'resisc45_clip': 'resisc45', 'stanford-cars': 'cars',
    'voc-2007-classification': 'voc2007_multilabel'}
_modes = {
    'zero_shot': dict(type='ElevaterZeroShot'),
    # Rates 1e-6 ... 1e-1 and 97 weight decays, searched as in the toolkit; class vectors as first weights (its script).
    'linear_5': dict(type='ElevaterLinear', shots=5), 'linear_20': dict(type='ElevaterLinear', shots=20),
    'linear_50': dict(type='ElevaterLinear', shots=50), 'linear_full': dict(type='ElevaterLinear', shots=-1),
    # Hours of a GPU for each set: up to 90 candidates of 10 epochs for each of three seeds. The published script's
    # values in place of a search: search='none', lr=0.1, l2=1e-6.
    'fine_tune_5': dict(type='ElevaterFineTune', shots=5), 'fine_tune_20': dict(type='ElevaterFineTune', shots=20),
    'fine_tune_50': dict(type='ElevaterFineTune', shots=50), 'fine_tune_full': dict(type='ElevaterFineTune', shots=-1),
    'fine_tune_5_two_rates': dict(type='ElevaterFineTune', shots=5, two_rates=True),
    'fine_tune_20_two_rates': dict(type='ElevaterFineTune', shots=20, two_rates=True),
    'fine_tune_50_two_rates': dict(type='ElevaterFineTune', shots=50, two_rates=True),
    'fine_tune_full_two_rates': dict(type='ElevaterFineTune', shots=-1, two_rates=True)}
# Zero-shot reads no image to learn from.
tasks = [dict(name=f'{set_name}-{mode}', set=set_name, templates=templates, predictions='work_dirs/elevater', **task,
              data={split: dict(type='ElevaterSet', root='data/elevater', set=set_name, split=split)
                    for split in (('test',) if mode == 'zero_shot' else ('train', 'test'))})
         for set_name, templates in _templates.items() for mode, task in _modes.items()]
