"""Let people look at what was selected: write batches for them, and read their answers back."""

import argparse
import sys
from pathlib import Path

EPILOG = """examples:
  python tools/curation/review.py write configs/curation/yfcc_clear10_verified.py review --reviewers ann bob
  python tools/curation/review.py read configs/curation/yfcc_clear10_verified.py review/*.csv

`write` makes a folder with the images and, for every reviewer, tables whose column `verdict` is to be filled with
accept or reject; or, with --form label-studio, tasks to import. `read` takes these tables, Label Studio's exports
(.json), the web page's answers (.jsonl) and folders of CLEAR's annotators; it shows how far the reviewers agree and the
precision of every class and bucket, and leaves the stage `verified`, from which `export` of the same config goes on.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    write = commands.add_parser('write', help='write batches for reviewers')
    read = commands.add_parser('read', help='read answers back')
    for command in (write, read):
        command.add_argument('config', help='config file of the stages, or the name of a shipped one')
    write.add_argument('out', type=Path, metavar='OUT', help='the folder to write')
    write.add_argument('--form', choices=('csv', 'label-studio'), default='csv')
    write.add_argument('--batch-size', type=int, default=500, help='images of a batch (default: %(default)s)')
    write.add_argument('--per-class', type=int, metavar='N', help='the best N of every class and bucket (default: all)')
    write.add_argument('--reviewers', nargs='+', default=[], metavar='NAME', help='a table for each of them')
    write.add_argument('--url-prefix', metavar='URL', help="in front of images' paths in Label Studio")
    write.add_argument('--overwrite', action='store_true', help='replace OUT')
    read.add_argument('answers', nargs='+', metavar='ANSWERS', help='files or folders')
    read.add_argument('--rule', choices=('majority', 'unanimous'))
    read.add_argument('--min-reviewers', type=int, metavar='N', help='answers that an image needs to be kept')
    read.add_argument('--num-images', type=int, metavar='N', help='the first N accepted of each class and bucket')
    read.add_argument('--user-labels', metavar='JSON', help="annotators' labels -> the data set's")
    read.add_argument('--overwrite', action='store_true', help='replace what was read before')
    for command in (write, read):
        command.add_argument('--work-dir', help='where stages lie (default: work_dirs/<name of the config>)')
        command.add_argument('--dry-run', action='store_true', help='say what would happen, write nothing')
        command.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                             help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import setup_logging
    from clear.engine.launch import read_run_config
    from clear.engine.stages.keys import entries, with_defaults

    setup_logging(None)
    cfg = read_run_config(args)
    found = entries(with_defaults(cfg))
    folders = {kind: Path(folder) for kind, folder in dict(cfg.get('inputs') or {}).items()}
    options = {}
    for entry in found:
        if entry.config['type'] == 'Verified':
            options = dict(entry.config)
            break
        folders[entry.stage.MAKES] = Path(cfg['work_dir']) / 'stages' / entry.name
    return (write if args.command == 'write' else read)(args, Path(cfg['work_dir']), folders, options)


def write(args: argparse.Namespace, work_dir: Path, folders: dict[str, Path], options: dict) -> int:
    from clear.curation.manifest import Finished
    from clear.curation.verification.batches import LOCAL_FILES, write_batches

    inputs = {kind: Finished(_folder(folders, kind)) for kind in ('selection', 'images', 'records')}
    print(f'images of {inputs["selection"].folder.path} into {args.out}')
    if not args.dry_run:
        batches = write_batches(inputs, args.out, form=args.form, batch_size=args.batch_size, per_class=args.per_class,
                                reviewers=args.reviewers, url_prefix=args.url_prefix or LOCAL_FILES,
                                overwrite=args.overwrite)
        print('\n'.join(map(str, batches)))
    return 0


def read(args: argparse.Namespace, work_dir: Path, folders: dict[str, Path], options: dict) -> int:
    from clear.engine.stages.runner import StageRunner

    given = dict(rule=args.rule, min_reviewers=args.min_reviewers, num_images=args.num_images,
                 user_labels=args.user_labels)
    stage = options | dict(type='Verified', answers=args.answers)
    stage |= {key: value for key, value in given.items() if value is not None}
    config = dict(stages=[stage], inputs=dict(selection=str(_folder(folders, 'selection'))))
    runner = StageRunner(config, work_dir, overwrite=args.overwrite)
    if args.dry_run:
        runner.plan()
        print(runner.describe())
        return 0
    runner.run()
    return 0


def _folder(folders: dict[str, Path], kind: str) -> Path:
    from clear.core.errors import ConfigError

    if kind not in folders:
        raise ConfigError(f"no stage of the config makes {kind}; add one, or say where a finished one is: "
                          f"--cfg-options inputs.{kind}=FOLDER")
    return folders[kind]


if __name__ == '__main__':
    sys.exit(main())
