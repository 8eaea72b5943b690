"""Encoders of other configs, in the place of the entry that names them, and the published list of ViRB."""

from collections import Counter
from pathlib import Path

import pytest

from clear.core.config import load_config
from clear.core.errors import USER_ERRORS, CheckpointError
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.features.build import make_encoder

VIRB = '_base_/encoders/virb/all.py'
TASKS = dict(tasks=[dict(type='KNN')], data=dict(train=dict(type='ImageFolder', root='x'),
                                                 test=dict(type='ImageFolder', root='x')))


def encoders_of(**entries):
    return with_defaults({**TASKS, 'encoders': entries})['encoders']


def test_the_published_list_is_whole():
    found = encoders_of(virb=dict(suite=VIRB))
    assert found == load_config(VIRB)[0].to_dict()['encoders']
    assert len(found) == 33
    # Six of others and SimCLR and the supervised one; of what the authors trained twelve by each of two methods.
    files = {name: Path(entry['weights']['path']).name for name, entry in found.items() if 'weights' in entry}
    assert {*found} - {*files} == {'Random'} and len({*files.values()}) == 32
    theirs = {name for name, file in files.items() if file == f'{name}.pt'}
    assert Counter(found[name]['info']['method'] for name in theirs) == {'swav': 12, 'moco_v2': 12}
    assert {files[name] for name in {*files} - theirs} == {
        'swav_200ep_pretrain.pth.tar', 'swav_800ep_pretrain.pth.tar', 'moco_v1_200ep_pretrain.pth.tar',
        'moco_v2_200ep_pretrain.pth.tar', 'moco_v2_800ep_pretrain.pth.tar', 'model_final_checkpoint_phase799.torch',
        'model_final_checkpoint_phase999.torch', 'resnet50-0676ba61.pth'}
    for name, entry in found.items():
        assert name == 'Random' or entry['weights']['origin'].endswith('/' + files[name])
        assert entry['preprocess']['squash'] is True and entry['preprocess']['crop'] == 224
    # Data sets and epochs of the paper's table 1, for either method.
    for method in ('swav', 'moco_v2'):
        rows = Counter((entry['info']['pretrain_dataset'], entry['info']['epochs']) for entry in found.values()
                       if entry['info']['method'] == method)
        assert rows == Counter([('imagenet', 50), ('imagenet', 100), ('imagenet', 200), ('imagenet', 800),
                                ('imagenet_half', 100), ('imagenet_half', 200), ('imagenet_quarter', 200),
                                ('imagenet_half_linear', 100), ('imagenet_half_linear', 200),
                                ('imagenet_quarter_log', 200), ('places', 200), ('kinetics', 200), ('taskonomy', 200),
                                ('combination', 200)])
    check_probe_config(with_defaults({**TASKS, 'encoders': found}))


def test_some_of_a_list_beside_others():
    own = dict(type='TorchvisionEncoder', arch='resnet18')
    found = encoders_of(own=own, virb=dict(suite=VIRB, only=['Random', 'SWAV_8*'], weights_root='/data/weights'))
    assert [*found] == ['own', 'SWAV_800', 'Random'] and found['own'] == own
    assert found['SWAV_800']['weights']['path'] == '/data/weights/swav_800ep_pretrain.pth.tar'
    assert 'weights' not in found['Random']


def test_a_missing_file_is_one_message_with_its_place(tmp_path):
    entry = encoders_of(virb=dict(suite=VIRB, only=['SWAV_50'], weights_root=str(tmp_path)))['SWAV_50']
    with pytest.raises(CheckpointError) as caught:
        make_encoder({key: value for key, value in entry.items() if key != 'info'})
    assert str(caught.value) == (
        f'Weights {tmp_path}/SWAV_50.pt do not exist. Nothing is downloaded: fetch them from https://prior-model-weights'
        '.s3.us-east-2.amazonaws.com/contrastive_encoders/SWAV_50.pt to there.')


@pytest.mark.parametrize('entries, message', [
    (dict(virb=dict(suite=VIRB, only=['SWAV_51'])), r"no encoder is called 'SWAV_51'. Nearest: 'SWAV_50'"),
    (dict(virb=dict(suite=VIRB, only='SWAV_50')), "virb.only is 'SWAV_50'; expected a list"),
    (dict(virb=dict(suite=VIRB, names=['SWAV_50'])), "no key 'names'"),
    (dict(virb=dict(suite=VIRB, weights_root=3)), 'virb.weights_root is 3'),
    (dict(virb=dict(suite='_base_/tasks/image_level.py')), 'has no encoders'),
    (dict(virb=dict(suite='nowhere.py')), 'nowhere.py does not exist'),
    (dict(Random=dict(type='TorchvisionEncoder'), virb=dict(suite=VIRB)), "an encoder called 'Random' already"),
])
def test_what_is_no_list_is_refused(entries, message):
    with pytest.raises(USER_ERRORS, match=message):
        encoders_of(**entries)
