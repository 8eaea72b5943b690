"""Stages by two workers of Ray against a pool of two: a million records through buckets, retrieval and export.

Records, images (rows that point into one archive) and banks are generated. In turn, the same config with either engine:
first a stage that does nothing but keep every worker busy for a second, whose time, with the cluster's, is the start;
then `TimeBuckets`, `Retrieval` and `Export`, each from its first shard to its manifest, as its `timing.json` says. The
bytes of both runs are compared.
"""

import argparse
import hashlib
import json
import logging
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / 'tests' / 'helpers'), str(ROOT / 'benchmarks')]
EXAMPLE = """example:
  python benchmarks/curation_ray.py --rows 1000000 --rounds 3
"""
BUCKETS, DIM, SHARD_ROWS = 10, 64, 50_000
PROMPTS = ('laptop', 'camera', 'bus', 'sweater', 'dress', 'racing', 'hockey', 'cosplay', 'baseball', 'soccer')
STAGES = ('time_buckets', 'retrieval', 'export')


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=100_000, help='generated records (default: 100,000)')
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--workers', type=int, default=2)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import curation_ray_stages  # noqa: F401 what the config's custom_imports names

    from clear.engine.stages.runner import StageRunner

    logging.getLogger('clear').setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inputs = {name: str(make(root / name, args.rows)) for name, make in MAKERS.items()}
        rounds = []
        for number in range(args.rounds):
            seconds = {}
            for engine in ('pool', 'ray') if number % 2 == 0 else ('ray', 'pool'):
                shutil.rmtree(root / engine, ignore_errors=True)
                started = time.monotonic()
                StageRunner(config(inputs, root / engine, engine, args.workers), root / engine / 'run').run()
                all_s = time.monotonic() - started
                seconds[engine] = {name: seconds_of(root / engine, name) for name in ('start', *STAGES)}
                seconds[engine]['all'] = all_s
                print(f'round {number + 1}: {engine}  ' + '  '.join(f'{name} {each:.2f} s'
                                                                    for name, each in seconds[engine].items()))
            rounds.append(seconds)
        made = [contents(root / engine) for engine in ('pool', 'ray')]
        differing = sorted(name for name in {*made[0], *made[1]} if made[0].get(name) != made[1].get(name))
        print(*differing[:5], sep='\n')
    work = {engine: [sum(each[engine][name] for name in STAGES) for each in rounds] for engine in ('pool', 'ray')}
    ratio = statistics.median(ray / pool for ray, pool in zip(work['ray'], work['pool']))
    starts = {engine: round(statistics.median(each[engine]['start'] for each in rounds), 1) for engine in work}
    print(json.dumps(dict(benchmark='curation_ray', rows=args.rows, rounds=args.rounds, workers=args.workers,
                          ray_over_pool=round(ratio, 3), start_s=starts, same_bytes=not differing)))
    return 1 if differing else 0


def config(inputs: dict[str, str], folder: Path, engine: str, workers: int) -> dict:
    return dict(engine=engine, num_workers=workers, inputs=inputs, custom_imports=dict(imports=['curation_ray_stages']),
                stages=[
        dict(type='Start', shards=workers),
        dict(type='TimeBuckets', rule=dict(type='Equal', buckets=BUCKETS)),
        dict(type='Retrieval', text_encoder=dict(type='DrawnTextEncoder'), prompts=list(PROMPTS), k=300, q=3000,
             shortfall='keep-short'),
        dict(type='Export', out_dir=str(folder / 'clear'), all_metadata=False)])


def seconds_of(folder: Path, stage: str) -> float:
    return json.loads((folder / 'run' / 'stages' / stage / 'timing.json').read_text())['seconds']


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the stages and of the tree but those that tell times."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for part in ('run/stages', 'clear')
            for path in sorted((folder / part).rglob('*')) if path.is_file() and path.name != 'timing.json'}


def moments(rows: int, first: int, end: int):
    """Upload times of rows, microseconds: evenly over ten years."""
    import numpy as np

    return 1_100_000_000_000_000 + np.arange(first, end) * (300_000_000_000_000 // rows)


def make_records(folder: Path, rows: int) -> Path:
    import pyarrow
    from stage_folders import finished

    from clear.curation.metadata.records import SCHEMA

    shards = []
    for first in range(0, rows, SHARD_ROWS):
        end = min(first + SHARD_ROWS, rows)
        at = moments(rows, first, end)
        given = dict(id=range(first, end), line=range(first, end), is_video=[False] * (end - first), uploaded_at=at,
                     taken_at=at - 3_600_000_000, taken_at_is_local=[True] * (end - first),
                     url=[f'http://photos.example/{number}.jpg' for number in range(first, end)],
                     ext=['jpg'] * (end - first))
        shards.append({'records.parquet': pyarrow.table(
            [pyarrow.array(given[field.name], field.type) if field.name in given
             else pyarrow.nulls(end - first, field.type) for field in SCHEMA], SCHEMA)})
    finished(folder, shards, stage='Metadata')
    return folder


def make_images(folder: Path, rows: int) -> Path:
    """Rows of which each is the one photo of an archive."""
    import pyarrow
    from PIL import Image
    from stage_folders import finished

    from clear.curation.download.shards.writing import SCHEMA

    photo = BytesIO()
    Image.new('RGB', (64, 48), (90, 120, 150)).save(photo, 'JPEG')
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        member = tarfile.TarInfo('0.jpg')
        member.size = len(photo.getvalue())
        tar.addfile(member, BytesIO(photo.getvalue()))
    count, at = rows, moments(rows, 0, rows)
    given = dict(id=range(rows), line=range(rows), uploaded_at=at, taken_at=at - 3_600_000_000,
                 taken_at_is_local=[True] * count, path=[f'{number}.jpg' for number in range(rows)],
                 shard=['shards/000000/images.tar'] * count, offset=[512] * count, bytes=[member.size] * count,
                 width=[64] * count, height=[48] * count, format=['jpeg'] * count,
                 sha256=[hashlib.sha256(photo.getvalue()).hexdigest()] * count)
    table = pyarrow.table([pyarrow.array(given[field.name], field.type) if field.name in given
                           else pyarrow.nulls(count, field.type) for field in SCHEMA], SCHEMA)
    finished(folder, [{'images.parquet': table, 'images.tar': archive.getvalue()}], stage='Download')
    return folder


def make_features(folder: Path, rows: int) -> Path:
    import numpy as np
    from stage_folders import finished

    from clear.features.writing import write_bank

    shards, buckets = [], {}
    size, more = divmod(rows, BUCKETS)
    first = 0
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        for bucket in range(BUCKETS):
            end = first + size + (bucket < more)
            found = buckets[str(bucket)] = dict(shards=[], count=end - first, valid=end - first)
            for start in range(first, end, SHARD_ROWS):
                ids = np.arange(start, min(start + SHARD_ROWS, end))
                vectors = np.random.default_rng(start).standard_normal((len(ids), DIM)).astype(np.float32)
                bank = write_bank(Path(made) / str(start), vectors, np.full(len(ids), -1), ids=map(str, ids),
                                  class_names=[], dtype='float16', encoder='drawn')
                found['shards'].append(len(shards))
                shards.append({f'bank/{path.name}': path.read_bytes() for path in bank.path.iterdir()})
            first = end
        finished(folder, shards, stage='Features', summary=dict(buckets=buckets))
    return folder


MAKERS = dict(records=make_records, images=make_images, features=make_features)


if __name__ == '__main__':
    sys.exit(main())
