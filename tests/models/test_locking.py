"""Locking rules against a recorded table and open_clip's own functions; checkpointing against the plain network."""

import copy

import open_clip
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clear.core.errors import ConfigError
from clear.models import MMPretrainEncoder, OpenCLIPImageEncoder, OpenCLIPTextEncoder, TimmEncoder, TorchvisionEncoder
from clear.models.checkpointing import set_grad_checkpointing
from clear.models.locking import is_locked, lock_groups, lock_tower
from clear.models.towers.groups import depth_of_parameters, parameter_groups

TEXT = dict(embed_dim=16, text_cfg=dict(width=32, heads=2, layers=3, context_length=16))
VIT = dict(embed_dim=16, vision_cfg=dict(layers=3, width=32, head_width=16, patch_size=8, image_size=32))
RESNET = dict(embed_dim=16, vision_cfg=dict(layers=(1, 1, 1, 1), width=8, image_size=64))
SMALL = dict(crop=64, resize=64)

# A published system's rule, recorded: which of these parameters train, for a lock and a list of keywords.
NAMES = ('positional_embedding', 'text_projection', 'token_embedding.weight',
         'transformer.resblocks.1.attn.in_proj_weight', 'ln_final.bias')
TABLE = [
    (False, '', '11111'), (False, 'ln', '11110'), (False, 'ln,!final', '11110'), (False, '!resblocks', '11111'),
    (False, '!resblocks,in_proj', '11101'), (False, 'resblocks,!in_proj', '11101'),
    (False, 'in_proj,!resblocks', '11101'), (False, '!ln,!text_projection', '11111'),
    (True, '', '00000'), (True, 'ln', '00000'), (True, 'ln,!final', '00001'), (True, '!resblocks', '00010'),
    (True, '!resblocks,in_proj', '00010'), (True, 'resblocks,!in_proj', '00010'),
    (True, 'in_proj,!resblocks', '00010'), (True, '!ln,!text_projection', '01001'),
]


def trains(tower):
    return {name.removeprefix('model.') for name, value in tower.named_parameters() if value.requires_grad}


@pytest.fixture(scope='module')
def text():
    return OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT)


@pytest.mark.parametrize(('locked', 'keywords', 'expected'), TABLE)
def test_keywords_do_as_recorded(text, locked, keywords, expected):
    split = keywords.split(',') if keywords else []
    assert ''.join('01'[not is_locked(name, locked, split)] for name in NAMES) == expected
    assert ''.join('01'[not is_locked(name, locked, split[::-1])] for name in NAMES) == expected
    report = lock_tower(text, locked, keywords)
    assert ''.join('01'[name in trains(text)] for name in NAMES) == expected
    assert report.stays_in_eval is locked and text.train().model.training is not locked
    assert text.runs_without_grad is not any(value == '1' for value in expected)
    assert len(report.trainable) + len(report.frozen) == len(list(text.parameters()))
    assert f'{report.num_trainable:,} train' in str(report)


def test_unknown_keywords_are_an_error_and_useless_ones_are_said(text, caplog):
    lock_tower(text)
    with pytest.raises(ConfigError, match="'!resblock.2' matches no parameter.*would do nothing. Nearest: 'resblocks'"):
        lock_tower(text, keywords=['!resblock.2'])
    with pytest.raises(ConfigError, match="lock keyword '!' matches no parameter"):
        lock_tower(text, keywords='!')
    assert text.runs_without_grad  # Nothing was changed.
    lock_tower(text, True, 'ln_final')
    assert "'ln_final' does nothing: a tower that is locked needs !keyword" in caplog.text


def test_prompt_vectors_train_whatever_is_locked():
    tower = OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT, n_prompt=2)
    for lock in (lock_tower, lock_groups):
        lock(tower)
        assert trains(tower) == {'prompt'} and not tower.runs_without_grad
        assert not tower.train().model.training
        tower(['a cat']).sum().backward()
        assert tower.model.prompt.grad is not None and tower.model.ln_final.weight.grad is None


@pytest.mark.parametrize('groups', range(5 + 1))
def test_groups_of_transformers_equal_open_clip(groups):
    model = open_clip.model.CLIP(16, VIT['vision_cfg'], TEXT['text_cfg'])
    image = OpenCLIPImageEncoder('ViT-B-32', model_args=VIT)
    text = OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT)
    model.lock_image_tower(groups)
    model.lock_text_tower(groups)
    lock_groups(image, groups)
    lock_groups(text, groups)
    assert trains(image) == {name for name, value in model.visual.named_parameters() if value.requires_grad}
    assert trains(text) == {name for name, value in model.named_parameters()
                            if value.requires_grad and not name.startswith(('visual.', 'logit_scale'))}
    assert len(parameter_groups(image.model)) == len(parameter_groups(text.model)) == 5
    # The projection is the first group from the end: that one of transformers' blocks trains takes two.
    assert (groups == 1) == (trains(image) == {'proj'}) == (trains(text) == {'text_projection'})


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_groups_of_timm_equal_open_clip(groups):
    """open_clip locks a trunk of timm by timm's own groups; the projection after it is one more here."""
    from open_clip.timm_model import TimmModel

    theirs = TimmModel('test_vit', 16, image_size=160, pool='token', proj='linear')
    theirs.lock(groups)
    trunk = {name for name, value in theirs.trunk.named_parameters() if value.requires_grad}
    ours = TimmEncoder('test_vit')
    lock_groups(ours, groups)
    assert trains(ours) == {name for name in trunk if name in dict(ours.model.named_parameters())}
    names = parameter_groups(theirs)
    assert names[-1] == ['head.proj.weight'] and sum(map(len, names)) == len(list(theirs.parameters()))


@pytest.mark.parametrize('freeze_bn', [False, True])
def test_stages_of_a_residual_network_and_batch_norm(freeze_bn):
    tower = OpenCLIPImageEncoder('RN50', model_args=RESNET)
    assert [group[0].split('.')[0] for group in parameter_groups(tower.model)] == [
        'conv1', 'layer1', 'layer2', 'layer3', 'layer4', 'attnpool']
    lock_groups(tower, 2, freeze_bn_stats=freeze_bn)
    assert {name.split('.')[0] for name in trains(tower)} == {'layer4', 'attnpool'}
    tower.train()
    norms = {name: module for name, module in tower.model.named_modules() if isinstance(module, _BatchNorm)}
    means = {name: module.running_mean.clone() for name, module in norms.items()}
    tower(torch.randn(2, 3, 64, 64)).sum().backward()
    moved = {name for name, module in norms.items() if not torch.equal(module.running_mean, means[name])}
    late = {name for name in norms if name.startswith('layer4')}
    assert moved == (late if freeze_bn else set(norms))
    lock_groups(tower)
    assert not tower.train().model.training and tower.runs_without_grad


def test_open_clips_frozen_batch_norm_gives_the_same():
    torch.manual_seed(0)
    tower = OpenCLIPImageEncoder('RN50', model_args=RESNET)
    theirs = copy.deepcopy(tower.model)
    theirs.lock(0, freeze_bn_stats=True)
    lock_groups(tower, 0)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(tower.train()(images), theirs.train()(images))


@pytest.mark.parametrize(('build', 'count', 'first', 'last'), [
    (lambda: TorchvisionEncoder('resnet18', preprocess=SMALL), 5, 'conv1.weight', 'layer4.1.bn2.bias'),
    (lambda: TorchvisionEncoder('mobilenet_v3_small', preprocess=SMALL), 14, 'features.0.0.weight',
     'classifier.0.bias'),
    (lambda: TorchvisionEncoder('googlenet', preprocess=SMALL), 10, 'conv1.conv.weight',
     'inception5b.branch4.1.bn.bias'),
    (lambda: MMPretrainEncoder(backbone=dict(type='ResNet', depth=18), preprocess=SMALL), 5, 'backbone.conv1.weight',
     'backbone.layer4.1.bn2.bias'),
], ids=['resnet18', 'mobilenet', 'googlenet', 'mmpretrain'])
def test_groups_of_other_networks(build, count, first, last):
    tower = build()
    groups = parameter_groups(tower.model)
    names = [name for group in groups for name in group]
    assert len(groups) == count and (groups[0][0], groups[-1][-1]) == (first, last)
    assert sorted(names) == sorted(name for name, _ in tower.model.named_parameters())
    lock_groups(tower, 1)
    assert trains(tower) == set(groups[-1])


def test_groups_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match='unlocked_groups is 6, and the network has 5 groups, from conv1.weight'):
        lock_groups(TorchvisionEncoder('resnet18', preprocess=SMALL), 6)
    with pytest.raises(ConfigError, match='has no chain of blocks or stages'):
        parameter_groups(nn.ModuleDict(dict(a=nn.Linear(2, 2), b=nn.Linear(2, 2))))


@pytest.mark.parametrize('name', ['BertModel', 'CLIP'])
def test_groups_of_transformers_library(tmp_path, name):
    pytest.importorskip('transformers')
    from tiny_text import write_bert, write_two_towers

    from clear.models import HuggingFaceTextEncoder

    folder = write_bert(tmp_path / 'm') if name == 'BertModel' else write_two_towers(tmp_path / 'm', 'CLIP')
    tower = HuggingFaceTextEncoder(folder)
    groups = parameter_groups(tower.model)
    assert len(groups) == 4 and 'embedding' in groups[0][0]
    assert groups[-1][0].startswith('pooler.' if name == 'BertModel' else 'text_projection.')
    lock_groups(tower, 2)
    assert all('layer.1.' in key or 'layers.1.' in key or 'final' in key or key in groups[-1] for key in trains(tower))
    lock_tower(tower, True, '!layer.1.' if name == 'BertModel' else '!layers.1.')
    tower(['a cat']).square().sum().backward()
    assert all((value.grad is not None) == value.requires_grad for value in tower.parameters())


# Gradient checkpointing

CHECKPOINTED = {
    'resnet18': lambda: TorchvisionEncoder('resnet18', preprocess=SMALL, trainable=True),
    'open_clip': lambda: OpenCLIPImageEncoder('ViT-B-32', model_args=VIT, trainable=True),
    'timm': lambda: TimmEncoder('test_vit', trainable=True, model_args=dict(proj_drop_rate=0.3)),
    'text': lambda: OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT, trainable=True),
}


@pytest.mark.parametrize('name', CHECKPOINTED)
def test_checkpointing_changes_nothing_but_memory(name):
    torch.manual_seed(0)
    plain = CHECKPOINTED[name]().train()
    saving = copy.deepcopy(plain)
    assert saving.set_grad_checkpointing() >= 3
    saving = copy.deepcopy(saving)  # The switch goes with a copy.
    size = 1 if name == 'text' else plain.preprocess.crop
    inputs = ['a cat', 'two dogs'] if name == 'text' else torch.randn(2, 3, size, size)
    held = {}
    for key, tower in (('plain', plain), ('saving', saving)):
        torch.manual_seed(1)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            loss = tower(inputs).square().sum()
        held[key] = sum(kept)
        loss.backward()
    assert held['saving'] < 0.6 * held['plain']
    for (key, first), second in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-6, msg=key)
    # BatchNorm has seen one batch, and a state goes over.
    assert plain.state_dict().keys() == saving.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, saving.state_dict()[key], rtol=0, atol=0, msg=key)
    saving.set_grad_checkpointing(False)
    assert [type(module) for module in saving.modules()] == [type(module) for module in plain.modules()]


def test_a_network_without_blocks_cannot_be_checkpointed():
    with pytest.raises(ConfigError, match='Linear has no repeated blocks'):
        set_grad_checkpointing(nn.Linear(2, 2))


@pytest.mark.parametrize(('trainable', 'expected'), [
    (dict(locked=True, keywords='!text_projection'), {'text_projection'}),
    (dict(keywords=['transformer', 'ln_', 'embedding']), {'text_projection'}),
    (dict(unlocked_groups=1), {'text_projection'}), (dict(unlocked_groups=1, grad_checkpointing=True),
                                                     {'text_projection'}), (dict(locked=True), set()),
])
def test_a_config_locks_a_tower(trainable, expected, caplog):
    caplog.set_level('INFO', logger='clear')
    tower = OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT, trainable=trainable)
    assert trains(tower) == expected and 'OpenCLIPTextEncoder: ' in caplog.text
    image = OpenCLIPImageEncoder('ViT-B-32', model_args=VIT, trainable=dict(unlocked_groups=2))
    assert trains(image) == {'proj', 'ln_post.weight', 'ln_post.bias'} | {
        name for name in trains(image) if name.startswith('transformer.resblocks.2.')}
    image(torch.rand(1, 3, 32, 32)).sum().backward()
    with pytest.raises(ConfigError, match='trainable has locked, unlocked_groups: lock either by'):
        tower.set_trainable(dict(locked=True, unlocked_groups=1))
    with pytest.raises(ConfigError, match="trainable has no option 'lockd'. Nearest: 'locked'"):
        tower.set_trainable(dict(lockd=True))
    with pytest.raises(ConfigError, match='trainable is'):
        tower.set_trainable('yes')


def test_modules_of_a_pipeline_are_no_blocks():
    """As in a model of sentence-transformers: a transformer, then a dense layer."""

    class Pipeline(nn.Sequential):
        pass

    blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(3)])
    model = Pipeline(nn.ModuleDict(dict(embeddings=nn.Linear(2, 2), layer=blocks)), nn.Sequential(nn.Linear(2, 2)))
    depths, last = depth_of_parameters(model)
    assert last == 4 and depths == {
        '0.embeddings.weight': 0, '0.embeddings.bias': 0, '1.0.weight': 4, '1.0.bias': 4,
        **{f'0.layer.{block}.0.{name}': block + 1 for block in range(3) for name in ('weight', 'bias')}}
