"""Print a config as it is after its bases and the options are applied, and above it the files that it is made of."""

import argparse
import sys

EXAMPLE = """example:
  python tools/print_config.py configs/demo/replay_lenet5_demo.py --cfg-options cl_strategy.mem_size=300
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.config import base_tree, load_config
    from clear.core.configs.options import parse_options

    options = parse_options(args.cfg_options or [])
    cfg, assigned = load_config(args.config, options)
    check_new_keys({option for option in options if option.split('.')[0] not in assigned})
    for line in base_tree(args.config):
        print(f'# {line}')
    print(cfg.pretty_text)
    return 0


def check_new_keys(options: set[str]) -> None:
    """Refuse options on keys that the file does not assign and no program reads."""
    if not options:
        return  # the lists of keys come with heavy libraries
    from clear.core.configs.signatures import accepted_arguments
    from clear.engine.runners import runners
    from clear.engine.schema import check_options
    from clear.evaluation.image.voc07 import probing_config
    from clear.features import program

    keys = accepted_arguments(probing_config).union(program.KNOWN, *(runner.KEYS for runner in runners().values()))
    check_options(sorted(options), set(), keys)


if __name__ == '__main__':
    sys.exit(main())
