"""Print the probing config that does what YAML files of ViRB (an experiment list and its tasks) ask for."""

import argparse
import math
import re
import sys

EPILOG = """example:
  python tools/dataset_converters/virb_yaml.py --experiment_list configs/experiment_lists/swav.yaml \\
      --virb_configs configs/virb_configs/all.yaml > configs/my/virb.py
  python tools/train.py configs/my/virb.py --dry-run

The options are those of ViRB's main.py. What has no counterpart is a comment in the config. Its schedules never
stepped; the config has those that it names.
"""

# ViRB's name of a task -> ours, of configs/_base_/tasks/virb/.
TASKS = {
    'Imagenet': 'imagenet', 'Imagenetv2': 'imagenetv2', 'Pets': 'pets', 'CalTech-101': 'caltech101',
    'CIFAR-100': 'cifar100', 'SUN397': 'sun397', 'Eurosat': 'eurosat', 'dtd': 'dtd',
    'KineticsActionPrediction': 'kinetics_action', 'nuScenesActionPrediction': 'nuscenes_egomotion',
    'THORActionPrediction': 'thor_egomotion', 'THORNumSteps': 'thor_num_steps',
    'CLEVRNumObjects': 'clevr_num_objects', 'CLEVRDist': 'clevr_dist', 'Pets-Detection': 'pets_detection',
    'EgoHands': 'egohands', 'CityscapesSemanticSegmentation': 'cityscapes', 'THORDepth': 'thor_depth',
    'NYUDepth': 'nyu_depth', 'NYUWalkable': 'nyu_walkable', 'TaskonomyDepth': 'taskonomy_depth', 'KITTI': 'kitti_flow',
    'TaskonomyEdges': 'taskonomy_edges', 'TaskonomyInpainting': 'taskonomy_inpainting',
    'COCODetection': 'coco_detection'}
KEYS = ('task', 'training_configs', 'num_epochs', 'batch_size', 'test_batch_size', 'pre_encode', 'num_dataset_repeats',
        'task_head_weights_path')
SETTING_KEYS = ('optimizer', 'lr', 'momentum', 'scheduler')
OPTIMIZERS = ('adam', 'sgd')
SCHEDULERS = {'StepLR': ('step_size', 'gamma'), 'OneCycle': (), 'Poly': ('exponent',)}
LISTS = ('lrs', 'optimizers', 'schedules', 'weight_decays')
TESTED, TRAINED = 'imagenetv2', 'imagenet'  # the one task that trains no head, and the one whose head it tests
VIRB = '_base_/encoders/virb/all.py'
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')  # also of what may stand in a config without being read as Python


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--virb_configs', '--virb-configs', required=True, metavar='YAML', help='the tasks')
    parser.add_argument('--experiment_list', '--experiment-list', metavar='YAML', help='name of encoder -> its weights')
    parser.add_argument('--name', help='in place of a list: one encoder')
    parser.add_argument('--encoder_weights', '--encoder-weights', metavar='FILE', help='and its weights')
    parser.add_argument('--data-root', metavar='FOLDER', help="where the data lie (default: data, as in ViRB)")
    parser.add_argument('--protocol', choices=('strict', 'virb'), default='strict', help="'virb': heads and schedules "
                        'in every detail as ViRB means them (default: strict)')
    parser.add_argument('--out', metavar='FILE', help='write the config there (default: print it)')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from clear.core.errors import ConfigError

    if (args.experiment_list is None) == (args.name is None):
        raise ConfigError('Give either --experiment_list, or --name with --encoder_weights.')
    experiments = {args.name: args.encoder_weights} if args.name else read(args.experiment_list)
    shared = {} if args.protocol == 'strict' else dict(protocol=args.protocol)
    text = write(*convert(experiments, read(args.virb_configs), args.data_root, shared))
    if args.out is None:
        print(text, end='')
        return
    from clear.core.files import write_new

    write_new(args.out, text)
    print(f'wrote {args.out}')


def read(path: str) -> dict:
    """The values of a YAML file: plain ones, and nothing is run."""
    import yaml

    from clear.core.configs.plain import parse_yaml_config
    from clear.core.errors import ClearError, ConfigError
    from clear.core.files import read_text

    try:
        return parse_yaml_config(read_text(path))
    except (ClearError, yaml.YAMLError) as error:
        raise ConfigError(f'{path}: {" ".join(str(error).split())}') from error


def convert(experiments: dict, entries: dict, data_root: str | None = None, shared: dict | None = None
            ) -> tuple[dict, list[str]]:
    """The config as a dict of its top-level keys, and what of the files it does not say."""
    notes: list[str] = []
    where = {} if data_root is None else dict(data_root=data_root)
    check_entries(entries)
    found = {}
    for name, entry in entries.items():
        suite, options = task_of(name, entry, notes)
        if suite in found:
            raise _error(f"{name} and {found[suite][0]} are both the task {entry['task']}: put their training_configs "
                         'under one name.')
        found[suite] = name, {**options, **(shared or {})}
    encoders = encoders_of(experiments)
    tasks = [dict(suite=f'_base_/tasks/virb/{suite}.py', **where, **accepted(name, suite, options, notes))
             for suite, (name, options) in found.items()]
    if TESTED in found and TRAINED not in found:
        notes.append(f'{found[TESTED][0]} tests the head of {TRAINED}, which is therefore trained, too')
        tasks.insert(0, dict(suite=f'_base_/tasks/virb/{TRAINED}.py', **where))
    return dict(runner_type='ProbeRunner', encoders=encoders, tasks=tasks), notes


def encoders_of(experiments: dict) -> dict:
    """ViRB builds a ResNet-50 for every file, and torchvision's trained one where none is named."""
    from clear.core.config import load_config

    published = load_config(VIRB)[0].to_dict()['encoders']
    found = {}
    for name, weights in experiments.items():
        _check_name('the experiment list', name)
        if weights is not None and (not isinstance(weights, str) or not weights):
            raise _error(f'{name} in the experiment list is {weights!r}; expected the file of its weights.')
        known = published['Supervised'] if weights is None else published.get(name, {})
        found[name] = {key: published['Random'][key] for key in ('type', 'arch', 'preprocess')}
        found[name]['weights'] = known['weights'] if weights is None else weights
        if weights is not None and 'weights' in known:
            found[name]['weights'] = {**known['weights'], 'path': weights}
        if 'info' in known:
            found[name]['info'] = known['info']
    return found


def check_entries(entries: dict) -> None:
    """Refuse a file that has something else than tasks at its top level."""
    for name, entry in entries.items():
        if name in KEYS and not isinstance(entry, dict):
            before = [other for other in entries if isinstance(entries[other], dict)]
            raise _error(f'{name} stands outside its task; indent it' + (f' below {before[-1]}.' if before else '.'))
        if not isinstance(entry, dict):
            raise _error(f'{name} is {entry!r}; expected the keys of a task: {", ".join(KEYS)}.')


def task_of(name: str, entry: dict, notes: list[str]) -> tuple[str, dict]:
    """Our name of a task, and the options that its entry stands for."""
    _check_keys(name, entry, KEYS)
    if entry.get('task') not in TASKS:
        raise _unknown(f'{name}.task', entry.get('task'), TASKS)
    suite = TASKS[entry['task']]
    is_tested = entry.get('task_head_weights_path') is not None
    if is_tested != (suite == TESTED) or is_tested == ('training_configs' in entry):
        raise _error(f'{name}: Imagenetv2, and no other task, has task_head_weights_path, where its head comes from, '
                     'in place of training_configs.')
    if entry.get('num_dataset_repeats', 1) != 1:
        notes.append(f'{name}.num_dataset_repeats: features are stored once, of images that nothing random was done to')
    if not isinstance(entry.get('pre_encode', True), bool):
        raise _error(f"{name}.pre_encode is {entry['pre_encode']!r}; expected true or false.")
    if is_tested:
        return suite, {}
    if 'num_epochs' not in entry:
        raise _error(f'{name} has no num_epochs.')
    options = dict(settings=settings_of(name, entry['training_configs'], notes))
    sizes = dict(num_epochs='epochs', batch_size='batch_size', test_batch_size='test_batch_size')
    options.update({ours: _number(f'{name}.{theirs}', entry[theirs], whole=True) for theirs, ours in sizes.items()
                    if theirs in entry})
    return suite, options


def settings_of(name: str, configs: object, notes: list[str]) -> dict:
    """`training_configs` as the `settings` of a task."""
    if not isinstance(configs, dict) or not configs:
        raise _error(f'{name}.training_configs is {configs!r}; expected names with optimizer and lr.')
    found = {}
    for setting, values in configs.items():
        where = f'{name}.training_configs.{setting}'
        _check_name(where, setting)
        if not isinstance(values, dict) or not {'optimizer', 'lr'} <= {*values}:
            raise _error(f'{where} is {values!r}; expected optimizer and lr, and momentum or scheduler where there '
                         'is one.')
        _check_keys(where, values, SETTING_KEYS)
        optimizer = str(values['optimizer']).lower()
        if optimizer not in OPTIMIZERS:
            raise _unknown(f'{where}.optimizer', values['optimizer'], OPTIMIZERS)
        found[setting] = dict(optimizer=optimizer, lr=_number(f'{where}.lr', values['lr']))
        if optimizer == 'sgd':
            found[setting]['momentum'] = _number(f'{where}.momentum', values.get('momentum', 0.0))
        elif 'momentum' in values:
            notes.append(f'{where}.momentum: adam has none')
        if 'scheduler' in values:
            found[setting]['schedule'] = schedule_of(f'{where}.scheduler', values['scheduler'])
    return found


def schedule_of(where: str, values: object) -> dict:
    """`scheduler` as a schedule of `clear.evaluation.image.schedules`."""
    from clear.evaluation.image.schedules import VIRB_ONE_CYCLE

    if not isinstance(values, dict) or values.get('type') not in SCHEDULERS:
        raise _unknown(f'{where}.type', values.get('type') if isinstance(values, dict) else values, SCHEDULERS)
    needed = SCHEDULERS[values['type']]
    _check_keys(where, values, ('type', *needed))
    if not {*needed} <= {*values}:
        raise _error(f'{where} ({values["type"]}) needs {" and ".join(needed)}.')
    numbers = {key: _number(f'{where}.{key}', values[key], whole=key == 'step_size') for key in needed}
    if values['type'] == 'StepLR':
        return dict(type='step', **numbers)
    return dict(type='poly', power=numbers['exponent']) if numbers else dict(VIRB_ONE_CYCLE)


def accepted(name: str, suite: str, options: dict, notes: list[str]) -> dict:
    """`dict(options=...)` with those that a task of the suite takes; the others are noted."""
    from clear.core.config import load_config
    from clear.engine.probing.tasks import task_arguments

    tasks = load_config(f'_base_/tasks/virb/{suite}.py')[0].to_dict()['tasks']
    known = set().union(*(task_arguments(task['type']) for task in tasks))
    notes += [f'{name}.{key}: has no counterpart' for key in options if key not in known]
    kept = {key: value for key, value in options.items() if key in known}
    if 'settings' in kept:  # in place of the lists that the suite crosses
        kept.update({key: None for key in LISTS if any(task.get(key) is not None for task in tasks)})
    return dict(options=kept) if kept else {}


def write(config: dict, notes: list[str]) -> str:
    """The text of a config file."""
    from mmengine.config import Config

    text = '\n'.join([*(f'# {" ".join(note.split())}.' for note in notes), Config(config).pretty_text])
    if '{{' in text:  # mmengine puts variables of the environment there, before the file is read as Python
        raise _error("a name or a path holds '{{', which a config reads as something to be replaced.")
    return text


def _number(where: str, value: object, whole: bool = False) -> float | int:
    """A number; YAML reads 1e-4, without a point, as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or whole and not number.is_integer():
        raise _error(f'{where} is {value!r}; expected a {"whole " if whole else ""}number.')
    return int(number) if whole else number


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _error(f'{where}: {name!r} is no name; use letters, digits, and after the first _ . + and -.')


def _check_keys(where: str, values: dict, known: tuple) -> None:
    for key in values:
        if key not in known:
            raise _unknown(where, key, known)


def _unknown(where: str, name: object, known) -> Exception:
    from clear.core.errors import nearest

    near = nearest(str(name), known)
    return _error(f'{where}: {name!r} is unknown. ' + (f'Nearest: {near}.' if near else f'Known: {", ".join(known)}.'))


def _error(message: str) -> Exception:
    from clear.core.errors import ConfigError

    return ConfigError(message)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
