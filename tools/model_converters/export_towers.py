"""Write the towers of a trained image-text pair as open_clip, transformers or sentence-transformers write theirs."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/model_converters/export_towers.py configs/my/clip.py work_dirs/clip/latest.pth exported/clip.pt

Two towers of open_clip become a file (.pt, .safetensors), two of one model of transformers a folder, with the scale of
the cosines. Others are written one at a time: --side text a folder, --side image a file of its library's names.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the training, or the name of a shipped one')
    parser.add_argument('checkpoint', help='a checkpoint of that training')
    parser.add_argument('output', metavar='OUT', type=Path, help='file or folder to write')
    parser.add_argument('--side', choices=('both', 'image', 'text'), default='both')
    parser.add_argument('--merge', action='store_true', help='put LoRA and IA3 into the weights')
    parser.add_argument('--drop-heads', action='store_true', help='leave heads out, for which no library has a place')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT')
    parser.add_argument('--dry-run', action='store_true', help='check everything, write nothing')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    import tempfile

    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.models import AlignedEncoder
    from clear.models.converters.libraries import export_towers

    if args.output.exists() and not (args.overwrite or args.dry_run):
        raise ConfigError(f'{args.output} exists; replace it with --overwrite.')
    setup_logging(None)
    cfg = load_config(args.config, parse_options(args.cfg_options or []))[0].to_dict()
    if 'model' not in cfg:
        raise ConfigError(f'{args.config} has no model.')
    model = AlignedEncoder(cfg['model'], args.checkpoint).model
    parts = {name: part for name, part in (('image', model.image_encoder), ('text', model.text_encoder))
             if args.side in ('both', name)}
    for name, tower in parts.items():
        print(f'{name}: {type(tower).__name__}, {sum(value.numel() for value in tower.parameters()):,} parameters')
    how = dict(side=args.side, merge=args.merge, drop_heads=args.drop_heads)
    if args.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            what = export_towers(model, Path(folder, args.output.name), **how)
        print(f'{args.output} would be: {what}; dry run: nothing was written')
        return 0
    print(f'wrote {args.output}: {export_towers(model, args.output, **how)}')
    return 0


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
