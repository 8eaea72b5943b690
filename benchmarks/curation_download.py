"""Images to shards, against threads that ask one by one and against bare streams.

A local server in a process of its own answers every request after a delay with a JPEG of some 70 KB. In turn, in one
process: `clear`, the stage `Download` from records to a published shard (tables, checksums, ledger on the disk; caps of
hosts lifted); `threads`, one request without a session each, decoded and encoded anew into a file by PIL; `limit`, bare
asyncio streams that hash each body and append it to a tar. With `--img2dataset PYTHON` also img2dataset, in the
environment of that interpreter, whose imports are left out.

CPU time is the client's alone: of this process and of what it starts.
"""

import argparse
import asyncio
import hashlib
import io
import json
import logging
import os
import random
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EXAMPLE = """example:
  python benchmarks/curation_download.py --rounds 5
"""
AT_ONCE, DISTINCT = 128, 50


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=1500, help='of one round (default: 1500)')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--delay', type=float, default=0.02, help='seconds before an answer (default: 0.02)')
    parser.add_argument('--img2dataset', type=Path, metavar='PYTHON', help='interpreter with img2dataset')
    parser.add_argument('--serve', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.serve:
        asyncio.run(serve(args.serve, args.delay))
        return 0
    logging.getLogger('clear').setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_server(folder, args.delay)
        try:
            rounds = measured(args, folder, f'127.0.0.1:{server.stdout.readline().strip()}')
        finally:
            server.kill()
            server.wait()
    medians = {name: round(statistics.median(each[name] for each in rounds), 1) for name in rounds[0]}
    found = {f'clear_over_{name}': [round(each['clear'] / each[name], 2) for each in rounds]
             for name in rounds[0] if name != 'clear'}
    ratios = {name: statistics.median(values) for name, values in found.items()}
    spread = {name: [min(values), max(values)] for name, values in found.items()}
    print(json.dumps(dict(benchmark='curation_download', images=args.images, rounds=args.rounds, **ratios,
                          spread=spread, images_per_cpu_s=medians)))
    return 0


def measured(args: argparse.Namespace, folder: Path, origin: str) -> list[dict[str, float]]:
    """Images a CPU-second of every client, for each round."""
    modes = dict(clear=clear_stage, threads=threads, limit=streams)
    if args.img2dataset:
        modes['img2dataset'] = lambda *given: img2dataset(args.img2dataset, *given)
    rounds = []
    for number in range(-1, args.rounds):
        count = args.images if number >= 0 else AT_ONCE  # what is imported on the way is not measured
        rates = {}
        for name, mode in modes.items():
            with tempfile.TemporaryDirectory(dir=folder) as out:
                urls = [f'http://{origin}/{number + 1}/{place}.jpg' for place in range(count)]
                work = mode(urls, origin, Path(out))
                before, started = cpu_s(), time.monotonic()
                without_s = work() or 0.0
                rates[name] = count / (cpu_s() - before - without_s)
                seconds = time.monotonic() - started
            if number >= 0:
                print(f'round {number + 1}: {name:<12} {rates[name]:7.0f} images/cpu-s  {count / seconds:7.0f}/s')
        if number >= 0:
            rounds.append(rates)
    return rounds


def cpu_s() -> float:
    """Of this process and of children that have ended; the server is alive as long as this runs."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def clear_stage(urls, origin, out):
    """The stage, from records that are there to the manifest."""
    import pyarrow
    from pyarrow import parquet

    from clear.curation.metadata.own.url_list import UrlList
    from clear.engine.stages.runner import StageRunner

    (out / 'urls.txt').write_text('\n'.join(urls))
    StageRunner(dict(stages=[dict(type=UrlList.__name__, files='urls.txt', root=str(out))]), out / 'records').run()
    limits = dict(allow=[origin], connections=AT_ONCE, host_connections=AT_ONCE, host_rate=None, robots=False)
    config = dict(stages=[dict(type='Download', valid_dates=False, limits=limits, drop_duplicates=False, max_same=0)],
                  inputs=dict(records=str(out / 'records/stages/url_list')))
    runner = StageRunner(config, out / 'run')

    def work():
        runner.run()
        images = parquet.read_table(out / 'run/stages/download/shards/000000/images.parquet')
        assert len(images) == len(urls) and pyarrow.types.is_integer(images['offset'].type)
    return work


def threads(urls, origin, out):
    """One request at a time on each of many threads, without a session; decoded, and encoded again."""
    import requests
    from PIL import Image

    def one(url):
        image = Image.open(io.BytesIO(requests.get(url).content))
        image.save(out / url.rsplit('/', 1)[1])

    def work():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert len(list(pool.map(one, urls))) == len(urls)
    return work


def streams(urls, origin, out):
    """Nothing but sockets, a hash and a tar."""
    host, port = origin.split(':')

    async def ask(waiting, tar, sums):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 18)
        for url in waiting:
            path = url.split(origin, 1)[1]
            writer.write(f'GET {path} HTTP/1.1\r\nHost: {origin}\r\n\r\n'.encode())
            head = await reader.readuntil(b'\r\n\r\n')
            body = await reader.readexactly(int(head.lower().split(b'content-length: ')[1].split(b'\r\n')[0]))
            sums.append(hashlib.sha256(body).hexdigest())
            info = tarfile.TarInfo(path)
            info.size = len(body)
            tar.write(info.tobuf(tarfile.USTAR_FORMAT))
            tar.write(body)
            tar.write(bytes(-len(body) % tarfile.BLOCKSIZE))
        writer.close()

    async def run():
        waiting, sums = iter(urls), []
        with (out / 'images.tar').open('wb') as tar:
            await asyncio.gather(*(ask(waiting, tar, sums) for _ in range(min(AT_ONCE, len(urls)))))
            tar.write(bytes(2 * tarfile.BLOCKSIZE))
        assert len(sums) == len(urls)

    return lambda: asyncio.run(run())


def img2dataset(python, urls, origin, out):
    """One process with as many threads, no resizing, webdataset."""
    (out / 'urls.txt').write_text('\n'.join(urls))
    options = dict(url_list=str(out / 'urls.txt'), output_folder=str(out / 'images'), processes_count=1,
                   thread_count=AT_ONCE, resize_mode='no', output_format='webdataset', input_format='txt',
                   number_sample_per_shard=len(urls), disallowed_header_directives=[], retries=0)
    begin = 'import img2dataset, multiprocessing'

    def work():
        before = cpu_s()
        # Twice: for the program, and for the worker that it starts.
        for _ in range(2):
            subprocess.run([python, '-c', begin], check=True, capture_output=True)
        without_s = 2 * (cpu_s() - before)  # these, and as much again inside the run
        script = f'{begin}\nif __name__ == "__main__":\n    img2dataset.download(**{options!r})\n'
        (out / 'run.py').write_text(script)
        subprocess.run([python, str(out / 'run.py')], check=True, capture_output=True,
                       env={'HOME': str(out), 'PATH': os.environ['PATH'], 'NO_ALBUMENTATIONS_UPDATE': '1'})
        found = 0
        for path in (out / 'images').glob('*.tar'):
            with tarfile.open(path) as tar:
                found += sum(name.endswith('.jpg') for name in tar.getnames())
        assert found == len(urls), f'img2dataset has {found} of {len(urls)} images'
        return without_s
    return work


def start_server(folder: Path, delay_s: float) -> subprocess.Popen:
    """The server, with photographs of scikit-image's size in a file; it prints its port."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(DISTINCT):
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375), Image.BICUBIC)
        pixels = np.asarray(smooth).astype(np.int16) + rng.integers(-24, 25, (375, 500, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f'{number}.jpg', quality=86)
    return subprocess.Popen([sys.executable, __file__, '--serve', str(folder), '--delay', str(delay_s)],
                            stdout=subprocess.PIPE, text=True)


async def serve(folder: Path, delay_s: float) -> None:
    """Answer every GET on connections that are kept; print the port."""
    bodies = [path.read_bytes() for path in sorted(folder.glob('*.jpg'))]
    answers = [b'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n' % len(body) + body
               for body in bodies]
    rng = random.Random(0)

    async def answer(reader, writer):
        try:
            while head := await reader.readuntil(b'\r\n\r\n'):
                await asyncio.sleep(delay_s)
                writer.write(answers[rng.randrange(len(answers))])
                await writer.drain()
                if b'connection: close' in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, '127.0.0.1', 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == '__main__':
    sys.exit(main())
