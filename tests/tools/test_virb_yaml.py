"""YAML files of ViRB become configs of ours that load and are checked; what they get wrong is one message."""

import re

import pytest

from clear.core.config import find_config, load_config
from clear.core.errors import USER_ERRORS
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.evaluation.image.schedules import lr_factors, momenta
from tools.dataset_converters import virb_yaml

# The kinds of entries that its shipped files have.
GRID = '''
# Exemplar Task grid search config
Imagenet:
 task: "Imagenet"
 training_configs:
   adam-0.0001:
     optimizer: "adam"
     lr: 0.0001
   sgd-0.01:
     optimizer: "SGD"
     lr: 1e-2
   sgd-0.01-StepLR:
     optimizer: "sgd"
     lr: 0.01
     momentum: 0.9
     scheduler:
       type: "StepLR"
       step_size: 50
       gamma: 0.1
   sgd-0.01-OneCycle:
     optimizer: "sgd"
     lr: 0.01
     scheduler:
       type: "OneCycle"
   sgd-0.01-Poly:
     optimizer: "sgd"
     lr: 0.001
     scheduler:
       type: "Poly"
       exponent: 0.9
 num_epochs: 100
 batch_size: 32
THORDepth:
  task: "THORDepth"
  pre_encode: false
  training_configs:
    adam-0.0001-l1:
      optimizer: "adam"
      lr: 0.0003
  num_epochs: 50
  batch_size: 16
  test_batch_size: 2
'''
LIST = '''####### Baselines
Random: 'pretrained_weights/Random.pt'
SWAV_800: 'pretrained_weights/SWAV_800.pt'
mine: 'work_dirs/mine.pth'
'''
TESTED = '''
Imagenetv2:
 task: "Imagenetv2"
 task_head_weights_path: "out/%s/Imagenet*/model_head.pt"
'''
ONE = '''
{name}:
  task: "{task}"
  training_configs:
    adam-0.0001: {{optimizer: "adam", lr: 0.0001}}
  num_epochs: 3
  batch_size: 8
'''
@pytest.fixture
def files(tmp_path):
    def write(tasks, experiments=LIST):
        (tmp_path / 'tasks.yaml').write_text(tasks)
        (tmp_path / 'list.yaml').write_text(experiments)
        return ['--virb_configs', str(tmp_path / 'tasks.yaml'), '--experiment_list', str(tmp_path / 'list.yaml')]
    return write


@pytest.fixture
def checked(tmp_path, capsys):
    """The config that the program prints, read and checked as a run does it."""
    def printed(words):
        assert virb_yaml.main(words) == 0, capsys.readouterr().err
        text = capsys.readouterr().out
        (tmp_path / 'printed.py').write_text(text)
        raw = load_config(tmp_path / 'printed.py')[0]
        whole = with_defaults(raw)
        check_probe_config(whole)
        return text, raw.to_dict(), whole
    return printed


def test_a_grid_on_a_list(files, checked):
    text, raw, whole = checked(files(GRID))
    assert [*whole['encoders']] == ['Random', 'SWAV_800', 'mine']
    for name, encoder in whole['encoders'].items():
        assert (encoder['type'], encoder['arch']) == ('TorchvisionEncoder', 'resnet50')
        assert encoder['preprocess']['squash'] is True and encoder['preprocess']['crop'] == 224
        if name != 'SWAV_800':
            assert encoder['weights'] == ('work_dirs/mine.pth' if name == 'mine' else 'pretrained_weights/Random.pt')
    # Where the file can be had: as published, which is read as well.
    assert whole['encoders']['SWAV_800']['weights'] == dict(
        path='pretrained_weights/SWAV_800.pt',
        origin='https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar')
    assert whole['encoders']['SWAV_800']['info'] == dict(method='swav', pretrain_dataset='imagenet', epochs=800)
    assert 'info' not in whole['encoders']['mine']

    assert [task['suite'] for task in raw['tasks']] == [f'_base_/tasks/virb/{name}.py'
                                                        for name in ('imagenet', 'thor_depth')]
    imagenet, depth = whole['tasks']
    assert (imagenet['epochs'], imagenet['batch_size']) == (100, 32)
    assert (depth['epochs'], depth['batch_size'], depth['test_batch_size']) == (50, 16, 2)
    assert depth['settings'] == {'adam-0.0001-l1': dict(optimizer='adam', lr=0.0003)}
    # They are all that is trained, whatever the suite says.
    assert not any(task.get(name) for task in (imagenet, depth) for name in ('lrs', 'optimizers', 'schedules'))
    found = imagenet['settings']
    assert found['adam-0.0001'] == dict(optimizer='adam', lr=0.0001)
    assert found['sgd-0.01'] == dict(optimizer='sgd', lr=0.01, momentum=0.0)  # torch's default, not ours
    assert found['sgd-0.01-StepLR']['momentum'] == 0.9


def test_schedules_are_those_of_torch(files, checked):
    import torch

    found = checked(files(GRID))[2]['tasks'][0]['settings']
    epochs, batches = 10, 4
    weight = torch.nn.Parameter(torch.zeros(1))
    for name, make, per_batch in (
            ('StepLR', lambda given: torch.optim.lr_scheduler.StepLR(given, 50, gamma=0.1), False),
            ('OneCycle', lambda given: torch.optim.lr_scheduler.OneCycleLR(
                given, 0.01, epochs=epochs, steps_per_epoch=1, anneal_strategy='linear'), False),
            ('Poly', lambda given: torch.optim.lr_scheduler.LambdaLR(
                given, lambda x: (1 - x / (epochs * batches)) ** 0.9), True)):
        setting = found[f'sgd-0.01-{name}']
        optimizer = torch.optim.SGD([weight], lr=setting['lr'], momentum=0.9)
        scheduler, rates, inertia = make(optimizer), [], []
        for step in range(epochs * batches):
            rates.append(optimizer.param_groups[0]['lr'])
            inertia.append(optimizer.param_groups[0]['momentum'])
            optimizer.step()
            if (per_batch or step % batches == batches - 1) and step < epochs * batches - 1:
                scheduler.step()
        ours = setting['lr'] * lr_factors(setting['schedule'], epochs, batches)
        assert ours.tolist() == pytest.approx(rates, rel=1e-9)
        if name == 'OneCycle':
            assert momenta(setting['schedule'], epochs, batches).tolist() == pytest.approx(inertia, rel=1e-9)


def test_every_task_of_that_system_is_one_of_ours(files, checked):
    names = [name for name in virb_yaml.TASKS if name != 'Imagenetv2']
    _, _, whole = checked(files(''.join(ONE.format(name=f'my-{name}', task=name) for name in names)))
    assert len(whole['tasks']) == len(names) == 24
    for task in whole['tasks']:
        assert (task['epochs'], task['batch_size']) == (3, 8), task['name']
        assert task['settings'] == {'adam-0.0001': dict(optimizer='adam', lr=0.0001)}


def test_a_task_that_tests_the_head_of_another(files, checked):
    text, _, whole = checked(files(TESTED))
    assert [task['type'] for task in whole['tasks']][1] == 'TrainedHead' and whole['tasks'][1]['of'] == \
        (whole['tasks'][0].get('name') or whole['tasks'][0]['type'])
    assert '# Imagenetv2 tests the head of imagenet, which is therefore trained, too.' in text
    text, _, whole = checked(files(GRID + TESTED))
    assert len(whole['tasks']) == 3 and not text.startswith('#')


def test_data_elsewhere_one_encoder_and_the_details_of_virb(tmp_path, checked, files):
    words = [*files(ONE.format(name='Pets', task='Pets'))[:2], '--name', 'mine', '--encoder_weights', 'x.pt']
    _, _, whole = checked([*words, '--data-root', '/big', '--protocol', 'virb'])
    task, = whole['tasks']
    assert all(source['root'].startswith('/big/pets') for source in task['data'].values() if source)
    assert task['protocol'] == 'virb' and whole['encoders']['mine']['weights'] == 'x.pt'
    # Without weights it is torchvision's trained network there.
    _, _, whole = checked(words[:4])
    assert whole['encoders']['mine']['weights']['path'].endswith('resnet50-0676ba61.pth')


def test_what_has_no_counterpart_is_named(files, checked):
    more = '  num_dataset_repeats: 3\n  test_batch_size: 4\n'
    text, _, _ = checked(files((ONE.format(name='Pets', task='Pets') + more).replace('lr: 0', 'momentum: 0.9, lr: 0')))
    for name in ('Pets.num_dataset_repeats', 'Pets.test_batch_size', 'Pets.training_configs.adam-0.0001.momentum'):
        assert f'# {name}: ' in text
    assert text.count('\n#') == 2  # and a first line


@pytest.mark.parametrize('tasks, message', [
    (TESTED + 'batch_size: 32\n', 'batch_size stands outside its task; indent it below Imagenetv2.'),
    ('batch_size: 32\n', 'batch_size stands outside its task; indent it.'),
    ('Imagenet: 3\n', 'Imagenet is 3; expected the keys of a task: task, training_configs'),
    (GRID.replace('task: "Imagenet"', 'task: "ImageNets"'),
     "Imagenet.task: 'ImageNets' is unknown. Nearest: 'Imagenet'"),
    (GRID.replace('task: "Imagenet"', 'task: "Flowers-Detection"'), "'Flowers-Detection' is unknown."),
    (GRID.replace('task: "Imagenet"', 'job: 3'), "Imagenet: 'job' is unknown."),
    (GRID.replace('num_epochs', 'num_epoch'), "Imagenet: 'num_epoch' is unknown. Nearest: 'num_epochs'"),
    (GRID.replace(' num_epochs: 100\n', ''), 'Imagenet has no num_epochs.'),
    (GRID.replace('"SGD"', '"sdg"'), "sgd-0.01.optimizer: 'sdg' is unknown. Nearest: 'sgd'"),
    (GRID.replace('lr: 0.0001', 'lr: fast'), "Imagenet.training_configs.adam-0.0001.lr is 'fast'; expected a number."),
    (GRID.replace('     lr: 0.0001\n', ''), 'expected optimizer and lr'),
    (GRID.replace('lr: 0.0001', 'lr: 0.1\n     decay: 1'), "adam-0.0001: 'decay' is unknown."),
    (GRID.replace('"OneCycle"', '"OneCycel"'), "scheduler.type: 'OneCycel' is unknown. Nearest: 'OneCycle'"),
    (GRID.replace('       gamma: 0.1\n', ''), r'scheduler \(StepLR\) needs step_size and gamma'),
    (GRID.replace('exponent', 'power'), "scheduler: 'power' is unknown."),
    (GRID.replace('num_epochs: 100', 'num_epochs: 1.5'), 'Imagenet.num_epochs is 1.5; expected a whole number.'),
    (GRID.replace('pre_encode: false', 'pre_encode: 3'), 'THORDepth.pre_encode is 3; expected true or false.'),
    (GRID.replace('adam-0.0001:', '"adam\'+1":'), 'is no name; use letters'),
    (GRID.replace('sgd-0.01:', 'adam-0.0001:'), "tasks.yaml: line 9: the key 'adam-0.0001' is there twice."),
    (GRID + ONE.format(name='again', task='THORDepth'), 'again and THORDepth are both the task THORDepth'),
    (ONE.format(name='x', task='Imagenetv2'), 'Imagenetv2, and no other task, has task_head_weights_path'),
    (TESTED.replace('"Imagenetv2"', '"Pets"'), 'Imagenetv2, and no other task, has task_head_weights_path'),
    (TESTED + ' training_configs: {}\n', 'Imagenetv2, and no other task, has task_head_weights_path'),
    ('- Imagenet\n', 'tasks.yaml: it holds a list; expected keys and values'),
    ('', 'tasks.yaml: it holds nothing'),
    ('Imagenet: {task: "Imagenet"\n', 'tasks.yaml: while parsing a flow mapping'),
    ('x: !!python/object/apply:os.system ["true"]\n', 'tasks.yaml: line 1: the tag .* is no plain value.'),
])
def test_what_is_wrong_in_the_tasks_is_one_message(files, capsys, tasks, message):
    assert virb_yaml.main(files(tasks)) == 2
    found = capsys.readouterr()
    assert found.out == '' and found.err.count('\n') == 1
    assert re.search(message, found.err)


@pytest.mark.parametrize('experiments, message', [
    ('SWAV_800: [1]\n', r'SWAV_800 in the experiment list is \[1\]; expected the file'),
    ('"a b": x.pt\n', "the experiment list: 'a b' is no name"),
    ('A: "{{$HOME:}}/a.pt"\n', "a name or a path holds '{{', which a config reads as something to be replaced"),
    ('SWAV_800: a.pt\nSWAV_800: b.pt\n', "list.yaml: line 2: the key 'SWAV_800' is there twice."),
])
def test_what_is_wrong_in_the_list_is_one_message(files, experiments, message):
    with pytest.raises(USER_ERRORS, match=message):
        virb_yaml.run(virb_yaml.parse_args(files(GRID, experiments)))


def test_options_go_together(files):
    words = files(GRID)
    for wrong in (words[:2], [*words, '--name', 'x']):
        with pytest.raises(USER_ERRORS, match='either --experiment_list, or --name'):
            virb_yaml.run(virb_yaml.parse_args(wrong))
    with pytest.raises(USER_ERRORS, match='none.yaml'):
        virb_yaml.run(virb_yaml.parse_args([*words[:2], '--experiment_list', 'none.yaml']))


def test_the_names_are_those_of_shipped_configs():
    for name in virb_yaml.TASKS.values():
        assert find_config(f'_base_/tasks/virb/{name}.py').is_file()


def test_config_goes_into_a_new_file(files, tmp_path, capsys):
    words = files(GRID)
    assert virb_yaml.main(words) == 0
    printed, out = capsys.readouterr().out, tmp_path / 'study.py'
    assert virb_yaml.main([*words, '--out', str(out)]) == 0
    assert out.read_text() == printed and capsys.readouterr().out == f'wrote {out}\n'
    assert virb_yaml.main([*words, '--out', str(out)]) == 2
