"""Classify PASCAL VOC 2007 on the features of a frozen encoder, by one of two protocols."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/voc07_classification.py configs/selfsup/voc07/svm_resnet50_voc07.py \\
      --cfg-options encoder.weights.path=weights/clsa.pth

The data are the archives of VOC 2007 (trainval and test), unpacked to data/VOCdevkit/VOC2007.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='voc07_classification.py', description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', type=Path, help='where results are written (default: work_dirs/<config>)')
    parser.add_argument('--device', help='cpu, cuda ... (default: a GPU if there is one)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that read images (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace the results in the work_dir')
    parser.add_argument('--dry-run', action='store_true', help='check config, weights and data, compute nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='override config fields')
    return parser.parse_args(argv)


def read(args: argparse.Namespace) -> dict:
    """The config with its overrides, keys checked."""
    from clear.core.checks import check_text
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.configs.signatures import check_keys
    from clear.core.errors import ConfigError
    from clear.evaluation.image.voc07 import CONFIG_KEYS

    cfg = load_config(args.config, parse_options(args.cfg_options))[0].to_dict()
    check_keys('config', cfg, CONFIG_KEYS, 'a VOC 2007 config')
    missing = sorted(CONFIG_KEYS - {'options'} - set(cfg))
    if missing:
        raise ConfigError(f'{args.config} has no {missing[0]}; a VOC 2007 config needs protocol, encoder, data_root.')
    check_text('data_root', cfg['data_root'])
    if not isinstance(cfg.get('options') or {}, dict):
        raise ConfigError(f"options is {cfg['options']!r}; expected a dict such as dict(seed=1).")
    return cfg


def run(args: argparse.Namespace) -> None:
    import torch

    from clear.core.config import find_config
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.core.results import RESULTS_FILE
    from clear.datasets.readers.voc import read_voc
    from clear.evaluation.image.voc07 import make_protocol, voc07_classification
    from clear.features.build import make_encoder

    cfg = read(args)
    work_dir = args.work_dir or Path('work_dirs') / find_config(args.config).stem
    if (work_dir / RESULTS_FILE).exists() and not (args.overwrite or args.dry_run):
        raise ConfigError(f'{work_dir} already holds results; replace them with --overwrite.')
    setup_logging(None)
    options = cfg.get('options') or {}
    make_protocol(cfg['protocol'], cfg['data_root'], **options)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    sizes = {split: len(read_voc(cfg['data_root'], split)) for split in ('train', 'val', 'test')}
    encoder = make_encoder(cfg['encoder'])
    print(f"protocol {cfg['protocol']} on {device}: {sizes['train']} + {sizes['val']} images for training and "
          f"selection, {sizes['test']} for the test, features of {encoder.embed_dim} numbers, into {work_dir}")
    if args.dry_run:
        print('dry run: nothing was computed')
        return
    result = voc07_classification(encoder, cfg['data_root'], protocol=cfg['protocol'], device=device,
                                  num_workers=args.num_workers, **options)
    write(work_dir / RESULTS_FILE, find_config(args.config).stem, cfg, result)
    print('\n'.join(f'  {name:<12} {value:.3f}' for name, value in result.extras['per_class'].items()))
    print('\n'.join(f'{name} {value:.3f}' for name, value in result.extras['metrics'].items()))
    print(f'results {work_dir / RESULTS_FILE}')


def write(path: Path, name: str, cfg: dict, result) -> None:
    from clear.core.config import config_hash
    from clear.core.results import Results, git_state, library_versions, write_results

    options = cfg.get('options') or {}
    write_results(path, Results(
        name=name, runner='voc07_classification', protocol=f"clear/voc07-{cfg['protocol']}/v1",
        metrics=result.extras['metrics'], config_hash=config_hash(cfg),
        seeds=dict(train=options.get('seed', 2019 if cfg['protocol'] == 'clsa' else 0)), versions=library_versions(),
        git=git_state(Path(__file__).parent), extras=dict(result=result.to_dict())))


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
