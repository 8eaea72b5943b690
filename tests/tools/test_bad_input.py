"""Wrong configs, options, data and checkpoints: one clear message, exit code 2, and nothing trained."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from short_runs import FEATURE_CONFIG, IMAGE_CONFIG, read_results, run, train, write_config

from clear.core import dist


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Roots of feature and image trees of three classes in three buckets."""
    root = tmp_path_factory.mktemp('data')
    return dict(features=write_clear_tree(root / 'features', features=8, per_class=6, images=False),
                images=write_clear_tree(root / 'images', per_class=4, image_size=32))


@pytest.fixture
def configs(data, tmp_path, monkeypatch):
    """`features.py` and `images.py` in the current folder, which is empty otherwise."""
    monkeypatch.chdir(tmp_path)
    write_config('features.py', FEATURE_CONFIG, data['features'])
    write_config('images.py', IMAGE_CONFIG, data['images'])


def refused(*arguments, says, program='train'):
    """Run a program and require exit code 2, one line on stderr with the given words, and no checkpoint."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob('*.pth')}
    finished = run(program, *arguments)
    assert finished.code == 2, finished
    lines = finished.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: '), finished.err
    for words in says:
        assert words in lines[0], lines[0]
    assert {path: path.stat().st_mtime_ns for path in Path().rglob('*.pth')} == before
    return lines[0]


# Each: the config, its options, and words that the message must hold.
OPTIONS = {
    'scenario type': ('features', ['scenario.type=CLEER'], ["'CLEER'", "'CLEAR' (clear)"]),
    'backbone type': ('images', ['model.backbone.type=LeNet55'], ["'LeNet55'", "'LeNet5' (mmpretrain)"]),
    'head type': ('features', ['model.head.type=LinearClsHed'], ["'LinearClsHead' (mmpretrain)"]),
    'model type': ('features', ['model.type=ComposedClasifier'], ["'ComposedClassifier' (clear)"]),
    'strategy type': ('features', ['cl_strategy.type=Naiv'], ["'Naive' (avalanche.training.supervised)"]),
    'optimizer type': ('features', ['cl_strategy.optimizer.type=SDG'], ['cl_strategy.optimizer', "'SGD'"]),
    'scheduler type': ('features', ['cl_strategy.scheduler.type=StepL'], ['cl_strategy.scheduler', "'StepLR'"]),
    'loss type': ('features', ['cl_strategy.loss.type=CrossEntropyLos'], ["'CrossEntropyLoss' (mmpretrain)"]),
    'transform type': ('images', ['scenario.train_transform.0.type=Greyscale'], ["'Grayscale' (torchvision"]),
    'runner type': ('features', ['runner_type=ContinualRuner'], ["'ContinualRuner'", 'ContinualRunner']),
    'strategy key': ('features', ['cl_strategy.train_mb_siz=4'], ['cl_strategy', "'train_mb_size'"]),
    'strategy key of its own': ('features', ['cl_strategy.type=Replay', 'cl_strategy.mem_sise=4'], ["'mem_size'"]),
    'scenario key': ('features', ['scenario.data_rot=x'], ['scenario', "'data_root'"]),
    'model part': ('features', ['model.hed.num_classes=3'], ['model', "'head'"]),
    'head key': ('features', ['model.head.num_clases=3'], ['model.head', "'num_classes'"]),
    'backbone key': ('images', ['model.backbone.num_clases=3'], ['model.backbone', "'num_classes'"]),
    'optimizer key': ('features', ['cl_strategy.optimizer.momentun=0.9'], ['cl_strategy.optimizer', "'momentum'"]),
    'scheduler key': ('features', ['cl_strategy.scheduler.gama=0.9'], ['cl_strategy.scheduler', "'gamma'"]),
    'loss key': ('features', ['cl_strategy.loss.type=CrossEntropyLoss', 'cl_strategy.loss.loss_wieght=2'],
                 ['cl_strategy.loss', "'loss_weight'"]),
    'transform key': ('images', ['scenario.train_transform.0.num_output_channel=1'], ["'num_output_channels'"]),
    'checkpoint key': ('features', ['checkpoint_config.intervall=1'], ['checkpoint_config', "'interval'"]),
    'load_from key': ('features', ['load_from.path=x.pth', 'load_from.sorce=moco'], ["'source'"]),
    'unknown top level': ('features', ['checkpoint_confg.interval=1'], ["'checkpoint_config'"]),
    'unknown, nothing near': ('features', ['banana=1'], ["nobody reads 'banana'"]),
    'helper variable': ('features', ['batch_size=4'], ["'batch_size' is a helper variable"]),
    'below a number': ('features', ['cl_strategy.optimizer.lr.x=4'], ['cl_strategy.optimizer.lr.x']),
    'option without value': ('features', ['seed'], ["got 'seed'"]),
    'optimizer value': ('features', ['cl_strategy.optimizer.lr=-1'], ['cl_strategy.optimizer (SGD)', '-1']),
    'epochs': ('features', ['cl_strategy.train_epochs=0'], ['cl_strategy.train_epochs is 0']),
    'policy': ('features', ['cl_strategy.optimizer_policy=keep'], ["'reset' or 'continue'"]),
    'seed': ('features', ['seed=-1'], ['seed is -1']),
    'threads': ('features', ['threads=0'], ['threads is 0']),
    'workers': ('features', ['num_workers=-1'], ['num_workers is -1']),
    'interval': ('features', ['checkpoint_config.interval=0'], ['checkpoint_config.interval is 0']),
    'iter_interval': ('features', ['checkpoint_config.iter_interval=0'], ['checkpoint_config.iter_interval is 0']),
    'precision': ('features', ['amp=half'], ["amp is 'half'", "'bf16' or 'fp16'"]),
    'budget': ('features', ['max_iters_per_experience=0'], ['max_iters_per_experience is 0']),
    'one seed': ('features', ['seeds=[3]'], ['seeds is [3]', 'at least two different']),
    'frozen': ('features', ['frozen=[hed]'], ["frozen: 'hed'", "'head'"]),
    'classes': ('features', ['model.head.num_classes=5'], ['num_classes=5, but', 'head.num_classes=3']),
    'channels': ('features', ['model.head.in_channels=5'], ['set in_channels=8']),
    'colours': ('images', ['scenario.train_transform.0.num_output_channels=3'], ['(3, 32, 32)']),
    'LwF alpha': ('features', ['cl_strategy.type=LwF', 'cl_strategy.alpha=[0,1]', 'cl_strategy.temperature=1'],
                  ['2 values for 3 experiences']),
    'split seed beyond all': ('features', ['scenario.seed=7'], ['seed is 7', '[0, 1, 2, 3, 4]', '[0]']),
    'split seed not on disk': ('features', ['scenario.seed=3'], ['no split of seed 3', '[0]']),
    'streaming with seed': ('features', ['scenario.evaluation_protocol=streaming'], ['streaming', 'seed must be None']),
    'protocol': ('features', ['scenario.evaluation_protocol=idd'], ["'idd'", "'iid' or 'streaming'", "'both'"]),
    'data name': ('features', ['scenario.data_name=clear10'], ['11 classes', 'lists 3']),
    'feature type': ('features', ['scenario.feature_type=moco_b1'], ["'moco_b1'", "'moco_b0'", 'check_clear.py']),
    'no data': ('features', ['scenario.data_root=nowhere'], ['nowhere does not exist', 'check_clear.py']),
    'no data, known set': ('features', ['scenario.data_root=nowhere', 'scenario.data_name=clear10'],
                           ['download_clear.py clear10']),
    'no demo data': ('images', ['scenario.data_root=nowhere', 'scenario.data_name=demo'], ['make_demo_clear.py']),
    'no weights': ('features', ['load_from=nothing.pth'], ['nothing.pth does not exist']),
    'device': ('features', ['device=gpu'], ["'gpu'"]),
    'L2P image size': ('images', ['cl_strategy.type=LearningToPrompt', 'cl_strategy.vit.img_size=64',
                                  'cl_strategy.vit.patch_size=16', 'cl_strategy.vit.embed_dim=16',
                                  'cl_strategy.vit.depth=1', 'cl_strategy.vit.num_heads=2'],
                       ['3 x 64 x 64', 'scenario.train_transform gives 1 x 32 x 32', 'img_size=32, in_chans=1']),
    'GDumb batch': ('features', ['cl_strategy.type=GDumb', 'cl_strategy.train_mb_size=2'], ['Use at least 3']),
}


@pytest.mark.parametrize('config, options, says', OPTIONS.values(), ids=OPTIONS)
def test_options_that_cannot_be_run(configs, config, options, says):
    refused(f'{config}.py', '--work-dir', 'run', '--cfg-options', *options, says=says)


# Each: lines after the base config, and words that the message must hold.
LINES = {
    'plugin type': ("cl_strategy['plugins'] = [dict(type='LwFPlugn')]", ["'LwFPlugin' (clear)"]),
    'plugin key': ("cl_strategy['plugins'] = [dict(type='LwFPlugin', alfa=1)]", ['cl_strategy.plugins[0]', "'alpha'"]),
    'logger type': ("loggers = [dict(type='TextLoger')]", ["'TextLogger' (clear)"]),
    'logger key': ("loggers = [dict(type='WandBLogger', projct_name='x')]", ['loggers[0]', "'project_name'"]),
    'metric type': ("metrics = [dict(type='accuracy_metric')]", ["'accuracy_metrics' (avalanche"]),
    'metric key': ("metrics = [dict(type='accuracy_metrics', epochs=True)]", ['metrics[0]', "'epoch'"]),
    'loss without type': ("cl_strategy['loss'] = dict(loss_weight=1)", ['cl_strategy.loss needs']),
    'part as text': ("model = dict(head='LinearClsHead')", ['model.head must be a dict']),
    'transforms as dict': ("scenario['train_transform'] = dict(type='ToTensor')", ['expected a list']),
    'train images, no tensors': ("scenario['train_transform'] = [dict(type='Grayscale')]",
                                 ['scenario.train_transform gives', 'ToTensor']),
    'test images, no tensors': ("scenario['eval_transform'] = [dict(type='Grayscale')]",
                                ['scenario.eval_transform gives', 'ToTensor']),
    'no transforms': ("scenario['eval_transform'] = None", ['scenario.eval_transform is needed']),
    'test images too small': ("scenario['eval_transform'] = [dict(type='Resize', size=[8, 8]), *_transform]",
                              ['(1, 8, 8)', 'scenario.eval_transform']),
    'no scenario': ('scenario = None', ["needs 'scenario'"]),
    'no head': ('model = dict()', ['neither backbone nor neck nor head']),
}


@pytest.mark.parametrize('lines, says', LINES.values(), ids=LINES)
def test_config_lines_that_cannot_be_run(configs, data, lines, says):
    write_config('wrong.py', IMAGE_CONFIG, data['images'], more=f'{lines}\n')
    refused('wrong.py', '--work-dir', 'run', says=says)


# Each: the whole file, and words that the message must hold.
FILES = {
    'syntax': ('a = = 3\n', ['wrong.py cannot be read as a config: SyntaxError']),
    'name': ('a = undefined_name\n', ["name 'undefined_name' is not defined"]),
    'error in the file': ('a = 1 / 0\n', ['ZeroDivisionError']),
    'assert in the file': ("assert False, 'my reason'\n", ['my reason']),
    'import': ('import no_such_library\na = 1\n', ['no_such_library']),
    'no base': ("_base_ = ['no_such_base.py']\n", ['no_such_base.py']),
    'same keys in two bases': ("_base_ = ['features.py', 'images.py']\n", ['Duplicate key', "'model'"]),
    'missing base value': ("_base_ = ['features.py']\na = {{_base_.no_such_key}}\n", ['no_such_key']),
    'no runner for it': ('a = 1\n', ["'cl_strategy'"]),
}


@pytest.mark.parametrize('text, says', FILES.values(), ids=FILES)
def test_config_files_that_cannot_be_read(configs, text, says):
    Path('wrong.py').write_text(text)
    refused('wrong.py', '--work-dir', 'run', says=says)
    assert not Path('run').exists()


def test_missing_config_names_the_nearest(configs):
    refused('configs/demo/naive_lenet_demo.py', says=["'demo/naive_lenet5_demo.py'"])
    refused('configs/demo/naive_lenet_demo.py', program='print_config', says=["'demo/naive_lenet5_demo.py'"])
    refused('nothing.py', says=['nothing.py does not exist'])


@pytest.mark.parametrize('broken, says', [
    ('class_names.txt', ['class_names.txt']),
    ('training_folder/bucket_indices.json', ['bucket_indices.json']),
    ('training_folder/testset_ratio_0.3/split_0/2/test.txt', ['test.txt is missing']),
    ('labeled_images/2', ['bucket 2', 'only half there']),
])
def test_data_root_that_is_half_there(configs, tmp_path, broken, says):
    root = write_clear_tree(tmp_path / 'half', per_class=4, image_size=32)
    (root / broken).rename(tmp_path / 'gone')
    refused('images.py', '--work-dir', 'run', '--cfg-options', f'scenario.data_root={root}',
            says=[*says, f'check_clear.py {root}'])


def test_an_experience_without_a_class_is_said_and_trained_on(configs, tmp_path):
    root = write_clear_tree(tmp_path / 'lacking', layout='new', features=8, per_class=6, images=False)
    for part in ('train', 'test'):
        index = root / part / 'features' / 'moco_b0' / 'features.json'
        buckets = json.loads(index.read_text())
        del buckets['2']['bus']
        index.write_text(json.dumps(buckets))
    finished = train('features.py', '--work-dir', 'run', '--cfg-options', f'scenario.data_root={root}')
    [line] = [line for line in finished.out.splitlines() if 'lack classes' in line]
    assert line.endswith("bucket 2 (train and test): 'bus'")
    assert line in Path('run/run.log').read_text()
    assert None not in read_results('run')['acc_matrix'][2]


def test_flags_that_cannot_be_met(configs, monkeypatch):
    if not torch.cuda.is_available():
        refused('features.py', '--work-dir', 'run', '--device', 'cuda', says=['no GPU'])
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    refused('features.py', '--launcher', 'pytorch', says=['RANK', 'tools/dist_train.sh'])
    assert not Path('run').exists()


def test_work_dir_that_cannot_be_made(configs):
    Path('file').write_text('mine')
    for work_dir in ('file', 'file/below'):
        refused('features.py', '--work-dir', work_dir, says=[f'work_dir {work_dir} cannot be made'])
    assert Path('file').read_text() == 'mine'


# Several processes

def test_batch_smaller_than_the_number_of_processes(configs, monkeypatch):
    monkeypatch.setattr(dist, 'world_size', lambda: 9)
    refused('features.py', '--work-dir', 'run', says=['train_mb_size is 8', '9 processes', 'Use at least 9'])


# Checkpoints

class Foreign:
    """Unpickling this makes a file."""

    def __reduce__(self):
        return os.mkdir, ('EXECUTED',)


@pytest.mark.parametrize('how', ['bare', 'with our format', 'noise'])
def test_foreign_checkpoints_are_refused_and_not_executed(configs, how):
    if how == 'bare':
        Path('foreign.pth').write_bytes(pickle.dumps(Foreign()))
    elif how == 'with our format':
        torch.save(dict(format=1, state_dict=Foreign()), 'foreign.pth')
    else:
        Path('foreign.pth').write_bytes(b'hello' * 100)
    for arguments in (['--resume', 'foreign.pth'], ['--cfg-options', 'load_from=foreign.pth']):
        refused('features.py', '--work-dir', 'run', *arguments, says=['foreign.pth', 'damaged'])
    refused('features.py', 'foreign.pth', program='test', says=['foreign.pth', 'damaged'])
    assert not Path('EXECUTED').exists()


def test_weights_that_match_too_little_of_the_backbone(configs):
    from clear.models import build_classifier

    trained = build_classifier(dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                                    head=dict(type='LinearClsHead', num_classes=3, in_channels=120)))
    state = trained.state_dict()
    # Five of the six tensors of the backbone: 83 %.
    state.pop(next(name for name in state if name.startswith('backbone.')))
    torch.save(state, 'part.pth')
    message = refused('images.py', '--work-dir', 'run', '--cfg-options', 'load_from=part.pth',
                      says=['Only 5 of 6 tensors outside the head', 'all are needed'])
    assert 'First missing: backbone.features.0.weight' in message


@pytest.fixture
def finished_run(configs):
    """A run in `run`; all of its files and their contents."""
    train('features.py', '--work-dir', 'run', '--cfg-options', 'checkpoint_config.interval=1')
    return contents('run')


def contents(folder):
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob('*')) if path.is_file()}


def without_log(files):
    return {path: content for path, content in files.items() if not path.endswith(('run.log', 'env.txt'))}


def test_work_dir_that_holds_a_run(finished_run):
    refused('features.py', '--work-dir', 'run', says=['already holds a run', '--resume', '--overwrite'])
    assert contents('run') == finished_run


def test_resume_without_a_checkpoint(configs):
    refused('features.py', '--work-dir', 'run', '--resume', '--overwrite', says=['give one of them'])
    refused('features.py', '--work-dir', 'run', '--resume', says=['Nothing to resume', 'latest.pth'])
    refused('features.py', '--work-dir', 'run', '--resume', 'exp_3.pth', says=['exp_3.pth does not exist'])
    assert not Path('run').exists()


@pytest.mark.parametrize('arguments, says', [
    (['--cfg-options', 'cl_strategy.type=Replay', 'cl_strategy.mem_size=4'], ['written by Naive', 'load_from=']),
    (['--cfg-options', 'cl_strategy.train_epochs=3'], ['cl_strategy.train_epochs: 2 -> 3']),
    (['--cfg-options', 'model.head.type=CosineDistanceHead'], ["'LinearClsHead' -> 'CosineDistanceHead'"]),
    (['--seed', '4'], ['seed: 0 -> 4']),
], ids=['strategy', 'epochs', 'head', 'seed'])
def test_resume_with_another_config(finished_run, arguments, says):
    options = ['checkpoint_config.interval=1'] if '--cfg-options' in arguments else \
        ['--cfg-options', 'checkpoint_config.interval=1']
    refused('features.py', '--work-dir', 'run', '--resume', *arguments, *options, says=says)
    assert without_log(contents('run')) == without_log(finished_run)


def test_resume_on_other_data(finished_run, tmp_path):
    other = write_clear_tree(tmp_path / 'other', features=8, per_class=7, images=False)
    refused('features.py', '--work-dir', 'run', '--resume', '--cfg-options', 'checkpoint_config.interval=1',
            f'scenario.data_root={other}', says=['other data'])
    assert without_log(contents('run')) == without_log(finished_run)


def test_overwrite_removes_the_files_of_a_run_only(finished_run):
    mine = ['run/notes.txt', 'run/sub/results.json', 'run/exp_final.txt', 'run/figures/mine.svg', 'run/weights.pth']
    for path in mine:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text('mine')
    train('features.py', '--work-dir', 'run', '--overwrite')
    assert all(Path(path).read_text() == 'mine' for path in mine)
    # The second run keeps no checkpoint per experience, so those of the first must be gone.
    assert {path.name for path in Path('run').glob('*.pth')} == {'latest.pth', 'weights.pth'}
    assert read_results('run')['seeds'] == {'train': 0, 'split': 0}


def test_checkpoint_of_another_model(finished_run):
    refused('features.py', 'run/exp_0.pth', '--cfg-options', 'model.head.type=CosineDistanceHead', program='test',
            says=['another model', 'head.fc.bias'])
    refused('features.py', 'run/exp_9.pth', program='test', says=['run/exp_9.pth does not exist'])
