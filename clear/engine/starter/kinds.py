"""The first config of each kind of run. All run on the demo's digits, on a CPU, without a network."""

from __future__ import annotations

from dataclasses import dataclass

_SPLIT = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
_DIGITS = "['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']"


@dataclass(frozen=True)
class Kind:
    """`module` is a name of `modules.MODULES`; `look` and `more` are commands after the run, `own` says what to change
    for data of one's own.
    """

    about: str
    module: str
    config: str
    own: str
    look: tuple[str, ...]
    more: tuple[str, ...]
    program: str = 'train'
    extra: str = ''


KINDS = {
    'continual': Kind(
        about='one bucket of images after the other, measured on all of them, past and future',
        module='transform',
        config="""# Replay on handwritten digits that drift over ten time buckets.
_base_ = ['clear::_base_/scenarios/demo.py', 'clear::_base_/models/lenet5_demo.py',
          'clear::_base_/strategies/replay.py', 'clear::_base_/default_runtime.py']
custom_imports = dict(imports=['own'])  # own.py beside this file, where Shift is defined

scenario = dict(train_transform=[dict(type='Grayscale'), dict(type='Shift', pixels=2), dict(type='ToTensor'),
                                 dict(type='Normalize', mean=[0.5], std=[0.5])])
# Any strategy: `clear print-config clear::_base_/strategies/ewc.py` shows the keys of another one.
cl_strategy = dict(mem_size=600, train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.05), scheduler=dict(step_size=3))
""",
        own="""Images as ROOT/<time>/<class>/<image>: put `clear::_base_/scenarios/folder_by_time.py` in place of the
first base, `clear::_base_/models/resnet18.py` in place of the second, `scenario = dict(data_root='ROOT')` in place of
that of the digits, and `model = dict(head=dict(num_classes=...))` below; the transforms of the base are for photos. A
table with paths, labels and dates: `clear::_base_/scenarios/table_by_time.py`. CLEAR-10 itself:
`clear download clear10 data/clear10` and `clear::_base_/scenarios/clear10.py`.""",
        look=('clear report work_dirs/config',),
        more=('clear train config.py --seed 1 --work-dir work_dirs/seed1',
              'clear compare work_dirs/config work_dirs/seed1')),
    'pretraining': Kind(
        about='a self-supervised encoder, from images without labels',
        module='hook',
        config="""# MoCo v2 with a small ResNet-18 on the digits; kNN on labels shows after each epoch what was learned.
_base_ = ['clear::_base_/models/selfsup/mocov2_resnet18-32px.py', 'clear::_base_/datasets/demo_squares.py',
          'clear::_base_/schedules/sgd_cos_demo.py']
custom_imports = dict(imports=['own'])  # own.py beside this file, where WeightNorm is defined

# Digits keep their hands: mirrored they would be other signs.
model = dict(data_preprocessor=dict(views=dict(changes=dict(flip_prob=0.0))))
# Two buckets of ten, for a first run of about a minute.
train_dataloader = dict(dataset=dict(buckets=[0, 1]))
custom_hooks = [*_base_.custom_hooks, dict(type='WeightNorm')]
""",
        own="""A folder with any images: `train_dataloader = dict(dataset=dict(_delete_=True, type='ImageFolder',
root='FOLDER', image_size=64))`, and `custom_hooks` without the kNN of the demo. Other methods:
`clear::_base_/models/selfsup/`, recipes for ImageNet: `clear::selfsup/mocov2_resnet50_8xb32-cos-200e_imagenet.py`.""",
        look=('clear report work_dirs/config',),
        more=('clear train config.py --seed 1 --work-dir work_dirs/seed1',
              'clear compare work_dirs/config work_dirs/seed1')),
    'alignment': Kind(
        about='an image tower and a text tower, from images with captions',
        module='loss',
        config="""# Two tiny towers on the digits and their names; zero-shot on other images after each epoch.
_base_ = ['clear::_base_/models/alignment/tiny_clip.py', 'clear::_base_/datasets/demo_pairs.py',
          'clear::_base_/schedules/adamw_cos_pairs_demo.py']
custom_imports = dict(imports=['own'])  # own.py beside this file, where FindText is defined

# CLIP's own loss is InfoNCELoss, which is what the base says. Patches of 8 pixels, for a first run of about a minute.
model = dict(loss=dict(type='FindText'), image_encoder=dict(model_args=dict(vision_cfg=dict(patch_size=8))))
""",
        own="""A table with columns for paths and captions: `train_dataloader = dict(dataset=dict(images=dict(
_delete_=True, type='ImageTextTable', path='pairs.csv', root='FOLDER', image_key='filepath', caption_key='title')))`,
and `custom_hooks = []`, which is the demo's zero-shot. Real towers:
`clear::alignment/clip_rn50_8xb64-cos-32e_cc3m.py`.""",
        look=('clear report work_dirs/config',),
        more=('clear train config.py --seed 1 --work-dir work_dirs/seed1',
              'clear compare work_dirs/config work_dirs/seed1')),
    'probing': Kind(
        about='a frozen encoder, measured by probes on its features',
        module='task',
        config=f"""# A ResNet-18 with random weights under four probes: any trained encoder should beat it.
_base_ = ['clear::_base_/tasks/smoke.py']
runner_type = 'ProbeRunner'
custom_imports = dict(imports=['own'])  # own.py beside this file, where Alikeness is defined

encoders = dict(random=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32)))
tasks = [*_base_.tasks, dict(type='Alikeness', name='alikeness')]
_split = '{_SPLIT}'
data = dict(train=dict(type='FileList', path=f'{{_split}}/train.txt', root='data/demo'),
            test=dict(type='FileList', path=f'{{_split}}/test.txt', root='data/demo'))
""",
        own="""Folders of classes: `data = dict(train=dict(type='ImageFolder', root='FOLDER/train'), test=dict(
type='ImageFolder', root='FOLDER/test'))`. Your weights: `encoders = dict(mine=dict(type='TorchvisionEncoder',
arch='resnet50', weights='FILE'))`; timm, open_clip, mmpretrain and torch.hub have encoders of their own. The 19 tasks
of ViRB: `clear::probing/suites/all.py`.""",
        look=('clear report work_dirs/config',),
        more=('clear train config.py --seed 1 --work-dir work_dirs/seed1',
              'clear compare work_dirs/config work_dirs/seed1')),
    'evaluation': Kind(
        about='an image and a text encoder, measured together: zero-shot, retrieval, text',
        module='texts',
        config=f"""# Two tiny towers that were never trained, so chance; `run` may name a finished run of alignment.
_base_ = ['clear::_base_/encoders/tiny_pair.py']
runner_type = 'ProbeRunner'
custom_imports = dict(imports=['own'])  # own.py beside this file, where NameSpread is defined

# encoders = dict(trained=dict(run='work_dirs/alignment'))
_named = dict(names={_DIGITS},
              templates=['a photo of the number {{}}.', 'a handwritten {{}}.'])
_split = '{_SPLIT}'
data = dict(test=dict(type='PromptedClassification', **_named, images=dict(
    type='FileList', path=f'{{_split}}/test.txt', root='data/demo')))
tasks = [dict(type='ZeroShot', name='zero_shot', **_named), dict(type='ClassRetrieval', name='retrieval', **_named),
         dict(type='NameSpread', name='names', names=_named['names'])]
""",
        own="""Folders of classes: `images=dict(type='ImageFolder', root='FOLDER')` in `data.test`, and their names in
the order of the alphabet. Published towers: `clear::_base_/encoders/clip_rn50_pair.py`. All tasks of ITRA:
`clear::evaluation/itra_all.py`.""",
        look=('clear report work_dirs/config',),
        more=('clear train config.py --seed 1 --work-dir work_dirs/seed1',
              'clear compare work_dirs/config work_dirs/seed1')),
    'curation': Kind(
        about='photos of your own, cut into time buckets',
        module='stage', program='curate', extra='curate',
        config="""# The demo's images as if they were photos, by the time of their files: five buckets of one size.
root = 'data/demo/labeled_images'
custom_imports = dict(imports=['own'])  # own.py beside this file, where EqualBuckets is defined

stages = [
    # Photos have 'exif' first; the digits have no camera, and take the time of the file.
    dict(type='PhotoFolder', root=root, time=['exif', 'mtime']),
    dict(type='Download', source=dict(type='Folder', root=root), valid_dates=False),
    dict(type='EqualBuckets', buckets=5),
]
""",
        own="""A folder of photos: set `root`, and take 'mtime' out of `time`, as a copy of a file changes it. A table
with addresses and dates, YFCC100M, and how labels are found by CLIP:
`clear print-config clear::curation/own_table_years.py` and `clear print-config clear::curation/yfcc_clear10.py`.""",
        look=('clear curate config.py --dry-run',),
        more=()),
}
