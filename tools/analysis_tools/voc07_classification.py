"""Classify PASCAL VOC 2007 on the features of a frozen encoder, by one of two protocols.

A short form of a probing config of one encoder and one task, which it runs as tools/train.py does.
"""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/voc07_classification.py configs/selfsup/voc07/svm_resnet50_voc07.py \\
      --cfg-options encoder.weights.path=weights/clsa.pth

The data are the archives of VOC 2007 (trainval and test), unpacked to data/VOCdevkit/VOC2007.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', type=Path, help='where results are written (default: work_dirs/<config>)')
    parser.add_argument('--device', help='cpu, cuda ... (default: a GPU if there is one)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that read images (default: 0)')
    parser.add_argument('--resume', action='store_true', help='keep the result in the work_dir if it is still valid')
    parser.add_argument('--overwrite', action='store_true', help='replace the results in the work_dir')
    parser.add_argument('--dry-run', action='store_true', help='check config, weights and data, compute nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='override config fields')
    parser.set_defaults(amp=None)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from mmengine.config import Config

    from clear.core.config import find_config, load_config
    from clear.core.configs.options import parse_options
    from clear.core.configs.signatures import accepted_arguments, check_keys
    from clear.core.errors import ConfigError
    from clear.core.logs import logger, setup_logging
    from clear.datasets.readers.voc import read_voc
    from clear.engine.probing.program import ProbeProgram
    from clear.evaluation.image.voc07 import probing_config

    setup_logging(None)
    given = load_config(args.config, parse_options(args.cfg_options))[0].to_dict()
    check_keys('config', given, accepted_arguments(probing_config), 'a VOC 2007 config')
    missing = [key for key in ('protocol', 'encoder', 'data_root') if key not in given]
    if missing:
        raise ConfigError(f'{args.config} has no {missing[0]}; a VOC 2007 config needs protocol, encoder, data_root.')
    name = find_config(args.config).stem
    cfg = Config(dict(name=name, work_dir=str(args.work_dir or Path('work_dirs') / name), device=args.device,
                      num_workers=args.num_workers, **probing_config(**given)))
    ProbeProgram.check(cfg)
    # Lists and annotations are read here: a probe would find at the end of the extraction that some are missing.
    sizes = {split: len(read_voc(given['data_root'], split)) for split in ('train', 'val', 'test')}
    logger.info("protocol  %s: %d + %d images for training and selection, %d for the test", given['protocol'],
                *sizes.values())
    ProbeProgram(cfg).run(args)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
