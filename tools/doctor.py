"""Say what this machine and its libraries can do, what is missing, and what of it will limit a run."""

import argparse
import sys

EPILOG = """example:
  python tools/doctor.py --work-dir work_dirs

The exit code is 2 where no run is possible, else 0.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', default='.', help='where results would be written (default: this folder)')
    parser.add_argument('--json', action='store_true', help='every fact as JSON, for programs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    import json

    from clear.core.errors import printable
    from clear.core.machine import doctor
    from clear.core.machine.limits import obstacles

    machine = doctor.examine(args.work_dir)
    print(json.dumps(doctor.as_plain(machine), indent=2) if args.json else printable(doctor.report(machine)))
    return 2 if obstacles(machine) else 0


if __name__ == '__main__':
    sys.exit(main())
