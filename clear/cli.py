"""The `clear` command: runs the programs of `tools/` by name, from a clone or after `pip install`."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NoReturn

PROGRAMS = {
    'init': ('init.py', 'write a first config, and say what to run'),
    'train': ('train.py', 'train from a config'),
    'test': ('test.py', 'evaluate a checkpoint without training'),
    'predict': ('predict.py', 'classify images with a checkpoint'),
    'curate': ('curate.py', 'make a data set from a photo stream, stage after stage'),
    'curate-app': ('curation/app.py', 'look at the banks of a curation in a web page'),
    'contact-sheet': ('curation/contact_sheet.py', 'the same as one HTML file'),
    'doctor': ('doctor.py', 'what this machine has, what is missing, what will limit a run'),
    'print-config': ('print_config.py', 'print a config with its bases and options applied'),
    'make-demo': ('dataset_converters/make_demo_clear.py', 'write the demo data'),
    'make-demo-scenes': ('dataset_converters/make_demo_scenes.py', 'write rendered scenes for the probing suite'),
    'check-data': ('dataset_converters/check_clear.py', 'report on a CLEAR folder'),
    'download': ('dataset_converters/download_clear.py', 'fetch the official CLEAR archives'),
    'download-yfcc': ('curation/download_yfcc.py', "fetch YFCC100M's metadata"),
    'convert-legacy': ('curation/convert_legacy.py', 'trees and buckets of the earlier curation'),
    'merge': ('dataset_converters/merge_clear.py', 'merge the official train and test folders'),
    'create-dataset': ('dataset_converters/create_dataset.py', 'cut the images of a CLEAR folder into buckets anew'),
    'make-splits': ('dataset_converters/make_splits.py', 'write train/test and few-shot splits'),
    'extract-features': ('extract_features.py', 'encode a data set into a feature bank'),
    'convert-features': ('dataset_converters/convert_features.py', 'features between a bank and the older layouts'),
    'from-itra': ('dataset_converters/itra_options.py', 'the config of a command line of ITRA or ProtoCLIP'),
    'from-virb': ('dataset_converters/virb_yaml.py', "the config of ViRB's YAML files"),
    'probing-figures': ('analysis_tools/probing_figures.py', 'the figures of a probing suite'),
    'evaluate-checkpoints': ('analysis_tools/evaluate_checkpoints.py', 'tasks for every checkpoint of a run'),
    'convert-weights': ('model_converters/convert_weights.py', 'published checkpoints to a plain backbone'),
    'export-towers': ('model_converters/export_towers.py', 'trained towers as open_clip or transformers write theirs'),
    'compare': ('analysis_tools/compare_runs.py', 'compare runs side by side'),
    'analyze-logs': ('analysis_tools/analyze_logs.py', 'curves and times of what runs logged'),
    'browse-dataset': ('visualization/browse_dataset.py', 'samples as the model sees them'),
    'vis-scheduler': ('visualization/vis_scheduler.py', 'the learning rate of a config over its iterations'),
    'confusion-matrix': ('analysis_tools/confusion_matrix.py', 'which classes a checkpoint takes for which others'),
    'get-flops': ('analysis_tools/get_flops.py', 'multiply-adds and parameters of the model of a config'),
    'publish-model': ('model_converters/publish_model.py', 'weights alone, in a file named by its hash'),
    'leak-guard': ('analysis_tools/leak_guard.py', 'find copies of training images in later tests'),
    'report': ('analysis_tools/make_report.py', 'redraw figures and report.html of a run'),
}
# Of several processes: shell scripts, which start the programs above.
SCRIPTS = {
    'dist-train': ('dist_train.sh', 'train on several GPUs (or CPU processes): CONFIG GPUS'),
    'dist-test': ('dist_test.sh', 'the same for test: CONFIG CHECKPOINT GPUS'),
    'slurm-train': ('slurm_train.sh', 'train on a Slurm cluster: PARTITION JOB_NAME CONFIG'),
}


def tools_folder() -> Path:
    """`tools/` beside the package in a clone, inside it after `pip install`."""
    package = Path(__file__).resolve().parent
    clone = package.parent / 'tools'
    return clone if (clone / 'train.py').is_file() else package / '_bundled' / 'tools'


def main() -> int:
    """Run `clear PROGRAM ARGUMENTS`."""
    from clear.core.programs.program import run_program

    return run_program(_run)


def _run() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print('usage: clear PROGRAM [arguments]\n\nprograms:')
        print('\n'.join(f'  {program:<22}{text}' for program, (_, text) in {**PROGRAMS, **SCRIPTS}.items()))
        print('\nclear PROGRAM --help tells more, e.g.: clear train configs/demo/replay_lenet5_demo.py')
        return 0
    if name == '--version':
        from clear import __version__

        print(__version__)
        return 0
    if name in SCRIPTS:
        _become(f'clear {name}', [str(tools_folder() / SCRIPTS[name][0]), *sys.argv[2:]])
    if name not in PROGRAMS:
        from clear.core.errors import suggestion

        known = [*PROGRAMS, *SCRIPTS]
        print(f"error: no program '{name}'.{suggestion(name, known)} Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    sys.argv = [f'clear {name}', *sys.argv[2:]]
    # Not by runpy, which puts the file in the place of the name that the program is called by.
    spec = spec_from_file_location('__main__', tools_folder() / PROGRAMS[name][0])
    spec.loader.exec_module(module_from_spec(spec))
    return 0


def _become(name: str, command: list[str]) -> NoReturn:
    """Run a shell script in place of this process, so that signals reach it; its processes take this Python.

    Args:
        name: as which it explains itself.
        command: the script and its arguments.

    Raises:
        ConfigError: if there is no bash.
    """
    # Not by the bit that says it can be run: some installers drop it.
    try:
        os.execvpe('bash', ['bash', *command], {'PYTHON': sys.executable, **os.environ, 'CLEAR_PROGRAM': name})
    except FileNotFoundError as error:
        from clear.core.errors import ConfigError

        raise ConfigError(f'{command[0]} needs bash, which is not installed here.') from error


if __name__ == '__main__':
    sys.exit(main())
