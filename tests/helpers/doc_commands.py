"""Runs the commands of the documentation in this process, made small where they take minutes or need the network."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
from curated import curated
from doc_pages import ROOT, Command, unique_commands

from clear.cli import SCRIPTS as SHORT_NAMES

COMMANDS = unique_commands()
DRIFT = 'tools/analysis_tools/drift_report.py'
SCRIPTS = {'tools/dist_train.sh': 0, 'tools/slurm_train.sh': 2}  # position of the config among the arguments


def make_targets() -> dict[str, list[str]]:
    """Target -> recipe lines of the Makefile, its variables filled in."""
    text = (ROOT / 'Makefile').read_text()
    variables = dict(re.findall(r'^(\w+) \??:?= (.*)$', text, re.MULTILINE))
    for _ in variables:
        text = re.sub(r'\$\((\w+)\)', lambda match: variables.get(match[1], match[0]), text)
    return {name: [line.strip() for line in recipe.splitlines()]
            for name, recipe in re.findall(r'^([\w-]+):(?!=).*\n((?:\t.*\n?)*)', text, re.MULTILINE)}


def is_long(command: Command) -> bool:
    """One more training on the demo data, a benchmark, or hundreds of permutations of every pair of buckets.

    In the quick tests its config or its arguments are checked; in the slow ones it runs whole.
    """
    if command.words[0] == 'python' and command.words[1].startswith(('benchmarks/', DRIFT)):
        return True
    return (command.words[:2] == ['python', 'tools/train.py'] and 'lenet5_demo' in command.text
            and '--dry-run' not in command.words and command.page not in ('README.md', 'extending.md'))


def adapted(script: str, arguments: list[str]) -> list[str]:
    """The arguments of a program, made to run in seconds and without a network."""
    arguments = list(arguments)
    name = Path(script).name
    if name == 'make_demo_clear.py':
        return [*arguments, '--limit', '100']
    if name == 'make_demo_scenes.py':
        return [*arguments, '--train', '24', '--test', '1', '--size', '16']
    if name in ('download_clear.py', 'download_yfcc.py'):
        return [*arguments, '--dry-run']
    of_reader = ('convert_weights.py', 'export_towers.py', 'review.py', 'verify_features.py', 'app.py',
                 'contact_sheet.py', 'evaluate_checkpoints.py', 'screenshots.py')
    if name == 'convert_weights.py' and arguments[0] == 'last.ckpt':
        return arguments
    if name in of_reader or name == 'convert_features.py' and any('bucket_11' in each for each in arguments):
        return [*arguments, '--help']  # of a file that only the reader has
    if name == 'curate.py' and ('features_clip' in arguments[0] or 'retrieve_' in arguments[0]):
        return [*arguments, '--help']  # with weights that would be fetched, on features that only the reader has
    if name != 'train.py' or '--dry-run' in arguments or '--help' in arguments:
        return arguments
    if arguments[0].endswith('suites/smoke.py'):
        return [*arguments, '--help']  # with weights that take the reader an hour; test_smoke_suite.py runs it
    if arguments[0].endswith('mmpretrain/resnet18_demo.py'):
        more = [] if '--resume' in arguments else ['--overwrite']
        return [*arguments, *more, '--cfg-options', 'train_cfg.max_epochs=1', 'threads=1']
    if 'lenet5_demo' not in arguments[0]:
        if '--branch' in arguments:  # from a run that only the reader has
            at = arguments.index('--branch')
            del arguments[at:at + 2]
        arguments = ['threads=1' if re.match(r'encoders\.\w+\.run=', each) else each for each in arguments]
        return [*arguments, '--dry-run']
    if '--resume' not in arguments and '--overwrite' not in arguments:
        arguments.append('--overwrite')
    if '--cfg-options' not in arguments:
        arguments.append('--cfg-options')
    at = arguments.index('--cfg-options') + 1
    return [*arguments[:at], 'cl_strategy.train_epochs=1', *arguments[at:]]


def load(script: str):
    """A program as a module, which finds those beside it."""
    path = ROOT / script
    assert path.is_file(), f'{script} does not exist'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def check_training(arguments: list[str]) -> None:
    """Everything that `tools/train.py` checks before it reads data."""
    from clear.engine.continual.runner import ContinualRunner
    from clear.engine.launch import read_run_config

    ContinualRunner(read_run_config(load('tools/train.py').parse_args(arguments)))


def call(script: str, arguments: list[str]) -> int:
    """Run a program in this process."""
    module = load(script)
    try:
        return module.main(arguments)
    except SystemExit as stop:  # argparse: --help, or a wrong argument
        return stop.code or 0


def run(command: Command, monkeypatch, whole: bool) -> list[str] | None:
    """Run or check one command. Returns the arguments it ran with, None if it was only looked at.

    A kind of command that this function does not know fails.
    """
    words = command.words
    if words[0] == 'clear' and words[1] in SHORT_NAMES:  # it would take the place of this process
        words = [f'tools/{SHORT_NAMES[words[1]][0]}', *words[2:]]
    if words[0] == 'make':
        assert len(words) == 2 and words[1] in make_targets()
    elif words[:2] == ['source', '.venv/bin/activate']:
        assert 'VENV := .venv\n' in (ROOT / 'Makefile').read_text()
    elif words[:2] == ['pip', 'install']:
        extra = re.fullmatch(r'clear-framework\[(\w+)\]', words[-1])
        assert words[2:] == ['-e', '.'] or extra and f"'{extra[1]}': [" in (ROOT / 'setup.py').read_text()
    elif words[0] in SCRIPTS:
        assert os.access(ROOT / words[0], os.X_OK)
        arguments = words[1 + SCRIPTS[words[0]]:]
        if words[0] == 'tools/dist_train.sh':
            assert int(arguments.pop(1)) >= 1
        assert call('tools/train.py', [*arguments, '--dry-run']) == 0
        return arguments
    elif words[0] == 'clear':
        from clear import cli

        script = f'tools/{cli.PROGRAMS[words[1]][0]}' if words[1] in cli.PROGRAMS else ''
        monkeypatch.setattr(sys, 'argv', [*words[:2], *adapted(script, words[2:])])
        with pytest.raises(SystemExit) as stop:
            sys.exit(cli.main())
        assert not stop.value.code
    elif words[0] == 'python' and words[1].startswith('tools/'):
        for name, value in command.variables.items():
            assert (name, value) == ('PYTHONPATH', '.')
            monkeypatch.syspath_prepend(Path.cwd())
        if words[1] == 'tools/train.py' and not whole:
            check_training(words[2:])
            return None
        arguments = adapted(words[1], words[2:])
        if words[1] == DRIFT and not whole:
            assert call(words[1], [*arguments, '--help']) == 0
            return None
        assert call(words[1], arguments) == 0
        return arguments
    elif words[0] == 'python' and words[1].startswith('benchmarks/'):
        assert call(words[1], words[2:] if whole else [*words[2:], '--help']) in (0, None)
    else:
        pytest.fail(f'{command.page}: nothing is known about the command: {command.text}')
    return None


def run_what_is_needed(command: Command, monkeypatch) -> None:
    """Run the commands that make the run folders, shards and scenes that this one reads, where they have not run."""
    for word in command.words:
        folder = Path(*Path(word).parts[:2])
        if word.startswith('work_dirs/') and not folder.exists():
            makers = [each for each in COMMANDS if '--resume' not in each.words
                      and any(f' {option} {folder} ' in f'{each.text} ' for option in ('--work-dir', '--out'))]
            if makers and makers[0] != command:
                run_what_is_needed(makers[0], monkeypatch)
                run(makers[0], monkeypatch, whole=True)
    configs = [(ROOT / word).read_text() for word in command.words if word.startswith('configs/')
               and (ROOT / word).is_file()]
    demo = Path('work_dirs/curation_demo/stages')
    if any('CuratedImages' in text for text in configs) and not demo.exists():
        curated(demo, count=700)  # in place of what `make curate-demo` leaves there
    for each in COMMANDS:
        name = Path(each.words[1]).name if each.words[1:] else ''
        place = {'make_shards.py': 3, 'make_scenes.py': 2, 'make_demo_scenes.py': 2}.get(name)
        if place is not None and not Path(each.words[place]).exists() \
                and any(each.words[place] in text for text in configs):
            run(each, monkeypatch, whole=True)


def promised_files(arguments: list[str]) -> list[Path]:
    """What a command that ran must have written, by its options."""
    files = [Path(value) for option, value in zip(arguments, arguments[1:]) if option in ('--out', '--json')]
    if 'lenet5_demo' in arguments[0] and '--cfg-options' in arguments and 'cl_strategy.train_epochs=1' in arguments:
        work_dir = (arguments[arguments.index('--work-dir') + 1] if '--work-dir' in arguments
                    else Path('work_dirs', Path(arguments[0]).stem))
        several = any(argument.startswith('seeds=') for argument in arguments)
        files += [Path(work_dir, name) for name in (['summary.json'] if several else ['results.json', 'report.html'])]
    return files
