"""Write the pairs of a config as tar shards, which training reads one after another."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_shards.py configs/_base_/datasets/demo_pairs.py data/demo_shards --shuffle 0

The config holds images=dict(type=READER, ...), or is one of training, whose train_dataloader.dataset.images is taken.
OUT gets shards-00000.tar, ..., an index beside each, and shards.json; the same pairs give the same bytes. A stopped run
goes on with the first shard that is not whole when the same command runs again. To train on them:
dataset=dict(type='WebDatasetPairs', shards='OUT', transform=[...]).
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--shard-size', type=int, default=1000, metavar='N',
                        help='pairs of a shard (default: %(default)s)')
    parser.add_argument('--shuffle', type=int, metavar='SEED',
                        help='mix the pairs first; by default they keep the order of the reader')
    parser.add_argument('--max-bad-fraction', type=float, default=0.01, metavar='SHARE',
                        help='share of images that may be missing (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace the shards in OUT, all of them')
    parser.add_argument('--dry-run', action='store_true', help='print what would happen, write nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields, e.g. images.path=data/cc3m/train_output.csv')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: make(parse_args(argv)))


def make(args: argparse.Namespace) -> int:
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.errors import ConfigError
    from clear.core.logs import progress_bar
    from clear.datasets import read_images
    from clear.datasets.make.shards import write_shards

    cfg = load_config(args.config, parse_options(args.cfg_options or []))[0].to_dict()
    source = cfg.get('images') or cfg.get('train_dataloader', {}).get('dataset', {}).get('images')
    if source is None:
        raise ConfigError(f'{args.config} has neither images=dict(type=...) nor train_dataloader.dataset.images.')
    images = read_images(source, 'images')
    print(f'{len(images)} images of {images.root} into {-(-len(images) // max(args.shard_size, 1))} shards in '
          f'{args.out}')
    if args.dry_run:
        return 0
    with progress_bar('write', 'pairs') as progress:
        done = write_shards(images, args.out, shard_size=args.shard_size, shuffle=args.shuffle,
                            max_bad_fraction=args.max_bad_fraction, overwrite=args.overwrite, progress=progress)
    if done.kept:
        print(f'{done.kept} shards were there already')
    if done.bad:
        print(f'{len(done.bad)} images cannot be read and are left out: {args.out}/shards.json lists them')
    print(f'{args.out}: {len(done.names)} shards, {sum(done.counts)} pairs, {sum(done.sizes):,} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
