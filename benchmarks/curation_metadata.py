"""Metadata to records and time buckets, against a reader that holds every row as a dict.

Rows are generated in the form of YFCC100M: 23 columns, some 480 bytes. In turn, in one process: `keys`, what
`--dry-run` counts (id, times and marker straight from the bytes); `full`, the stages `Metadata` and `TimeBuckets`
(every column typed, text decoded, rejected lines, Parquet, eleven equal buckets); the peer (a dict for each row, dates
by dateutil, one sort, JSON of the buckets); and as limit every byte read and its line ends counted. Peaks of memory are
of fresh processes.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = """example:
  python benchmarks/curation_metadata.py --rows 2000000 --rounds 1
"""
BUCKETS = 11
WORDS = ('lake', 'sunset', 'mountain', 'party', 'dog', 'cat', 'beach', 'new+york', 'caf%C3%A9', '100%25', 'snow')


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=200_000, help='generated rows (default: 200,000)')
    parser.add_argument('--peer-rows', type=int, help='rows that the peer reads (default: at most 300,000)')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--peak', choices=('keys', 'full', 'peer'), help=argparse.SUPPRESS)
    parser.add_argument('--file', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.peak:
        MODES[args.peak](args.file)
        # Not `ru_maxrss`, which begins with that of the process that started this one.
        print(int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024)
        return 0
    peer_rows = args.peer_rows or min(args.rows, 300_000)
    with tempfile.TemporaryDirectory() as folder:
        files = {rows: generate(Path(folder) / f'{rows}.tsv', rows) for rows in (args.rows, peer_rows)}
        rows_of = dict(keys=args.rows, full=args.rows, peer=peer_rows, limit=args.rows)
        for mode in MODES.values():
            mode(generate(Path(folder) / 'first.tsv', 1000))  # what is imported on the way is not measured
        rounds = []
        for number in range(args.rounds):
            rates = {}
            for name, rows in rows_of.items():
                started = time.process_time()
                MODES[name](files[rows])
                rates[name] = rows / (time.process_time() - started) / 1000
            rounds.append(rates)
            print(f'round {number + 1}: ' + '  '.join(f'{name} {rate:.0f} krow/cpu-s' for name, rate in rates.items()))
        peaks = {name: peak_mb(name, files[rows_of[name]]) for name in ('keys', 'full', 'peer')}
    print('  '.join(f'{name}: peak {peak:.0f} MB at {rows_of[name]:,} rows' for name, peak in peaks.items()))
    ratios = {f'{one}_over_{other}': round(statistics.median(each[one] / each[other] for each in rounds), 2)
              for one, other in (('keys', 'peer'), ('full', 'peer'), ('keys', 'limit'))}
    print(json.dumps(dict(benchmark='curation_metadata', rows=args.rows, peer_rows=peer_rows, rounds=args.rounds,
                          **ratios, peak_mb={name: round(peak) for name, peak in peaks.items()})))
    return 0


def peak_mb(name: str, file: Path) -> float:
    """Of a process that does nothing else."""
    command = [sys.executable, __file__, '--peak', name, '--file', str(file)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def generate(path: Path, rows: int) -> Path:
    """A file of `rows` photos; text comes from a pool, ids and times are drawn."""
    rng = random.Random(0)
    texts = ['\t'.join(['+'.join(rng.choices(WORDS, k=4)), '+'.join(rng.choices(WORDS, k=rng.randrange(30))),
                        ','.join(rng.choices(WORDS, k=rng.randrange(8))), ''])
             for _ in range(1000)]
    with path.open('w') as file:
        for number in range(rows):
            uploaded = 1_080_000_000 + rng.randrange(310_000_000)
            taken = time.strftime('%Y-%m-%d %H:%M:%S.0', time.gmtime(uploaded - rng.randrange(1, 1_000_000)))
            file.write(f'{3_000_000_000 + number}\t{rng.randrange(10**8)}@N00\tNick\t'
                       f'{taken if number % 11 else "null"}\t{uploaded}\tCanon+PowerShot\t{texts[number % 1000]}'
                       f'\t12.5\t-3.25\t16\thttp://photos.example/{number}/\t'
                       f'http://static.example/3000/{3_000_000_000 + number}_abcdef0123.jpg\tAttribution License\t'
                       'http://creativecommons.org/licenses/by/2.0/\t3000\t4\tabcdef0123\t0123456789\tjpg\t'
                       f'{int(number % 100 == 0)}\n')
    return path


def keys(path: Path) -> None:
    from clear.curation import Metadata

    Metadata(path.name, str(path.parent)).preview()


def full(path: Path) -> None:
    from clear.engine.stages.runner import StageRunner

    with tempfile.TemporaryDirectory() as folder:
        StageRunner(dict(stages=[dict(type='Metadata', files=path.name, root=str(path.parent)),
                                 dict(type='TimeBuckets', rule=dict(type='Equal', buckets=BUCKETS))]), folder).run()


def peer(path: Path) -> None:
    """Row by row into dicts, as scripts for this data do."""
    from datetime import UTC, datetime

    from dateutil import parser

    names = [f'column_{place}' for place in range(23)]
    records = []
    with path.open() as file:
        for line in file:
            record = dict(zip(names, line.rstrip('\n').split('\t')))
            try:
                taken = parser.isoparse(record['column_3'].removesuffix('.0'))
            except ValueError:
                continue
            uploaded = datetime.fromtimestamp(int(record['column_4']), UTC).replace(tzinfo=None)
            if taken < uploaded and record['column_22'] == '0':
                records.append(record)
    records.sort(key=lambda record: record['column_4'])
    size, more = divmod(len(records), BUCKETS)
    start = 0
    with tempfile.TemporaryDirectory() as folder:
        for bucket in range(BUCKETS):
            end = start + size + (bucket < more)
            (Path(folder) / f'{bucket}.json').write_text(json.dumps(records[start:end]))
            start = end


def limit(path: Path) -> None:
    with path.open('rb') as file:
        while block := file.read(8 << 20):
            block.count(b'\n')


MODES = dict(keys=keys, full=full, peer=peer, limit=limit)

if __name__ == '__main__':
    sys.exit(main())
