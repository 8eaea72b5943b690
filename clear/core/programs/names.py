"""The names of the programs: files of `tools/` to whoever has a clone, `clear PROGRAM` to whoever has the package."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

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
_CALLED = re.compile(r'(?P<python>python )?(?<![\w/.])tools/(?P<file>[\w/]+\.(?:py|sh))')


def tools_folder() -> Path:
    """`tools/` beside the package in a clone, inside it after `pip install`."""
    package = Path(__file__).resolve().parents[2]
    clone = package.parent / 'tools'
    return clone if (clone / 'train.py').is_file() else package / '_bundled' / 'tools'


def as_typed(text: str) -> str:
    """A text with the programs that it names called as this process was: `clear train` for `python tools/train.py`.

    What has no name of the command is a file inside the package.
    """
    if not (sys.argv[0].startswith('clear ') or 'CLEAR_PROGRAM' in os.environ):
        return text
    names = {file: name for name, (file, _) in {**PROGRAMS, **SCRIPTS}.items()}

    def typed(found: re.Match) -> str:
        name = names.get(found['file'])
        return f'clear {name}' if name else f'{found["python"] or ""}{tools_folder() / found["file"]}'

    return _CALLED.sub(typed, text)
