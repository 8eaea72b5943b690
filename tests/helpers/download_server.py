"""A local host of CLEAR archives that can lose connections, ignore ranges, and change its files."""

import io
import json
import socket
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from clear.datasets.make import download

QUICK = {'timeout_s': 2.0, 'backoff_s': 0.0}


class Server:
    """A local host of files that can lose connections, ignore ranges, and change its files."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.ranges = True  # whether Range is honoured
        self.cut_after: list[int] = []  # for each next answer: bytes of the body after which the line drops
        self.failures: list[int] = []  # for each next request: an HTTP status in place of the file
        self.log: list[tuple[str, str | None, int]] = []  # (path, Range header, status)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.http.server_port}'
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={'poll_interval': 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request):
        name, wanted = request.path.lstrip('/'), request.headers.get('Range')
        if name in self.redirects:
            request.send_response(302)
            request.send_header('Location', self.redirects[name])
            request.send_header('Content-Length', '0')
            request.end_headers()
            return
        body, etag = self.files.get(name), self.etags.get(name)
        status = self.failures.pop(0) if self.failures else (404 if body is None else 200)
        if status != 200:
            self.log.append((name, wanted, status))
            request.send_error(status)
            return
        total, start = len(body), 0
        condition = request.headers.get('If-Range')
        if wanted and self.ranges and (condition is None or condition == etag):
            start, status = int(wanted.removeprefix('bytes=').rstrip('-')), 206
        if start >= total and status == 206:
            status = 416
        self.log.append((name, wanted, status))
        request.send_response(status)
        if etag:
            request.send_header('ETag', etag)
        if status == 416:
            request.send_header('Content-Range', f'bytes */{total}')
            body = b''
        elif status == 206:
            request.send_header('Content-Range', f'bytes {start}-{total - 1}/{total}')
            body = body[start:]
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        cut = self.cut_after.pop(0) if self.cut_after else None
        request.wfile.write(body[:cut])


@contextmanager
def serving(monkeypatch):
    """A server, with the official host out of reach and no proxy in between."""
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    # Nothing listens on a port that was just given back.
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        dead = f'http://127.0.0.1:{probe.getsockname()[1]}'
    monkeypatch.setattr(download, 'BASE_URL', dead)
    server = Server()
    server.dead = dead
    try:
        yield server
    finally:
        server.close()


def zip_of(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def part_files(split, prefix=''):
    """A train or test tree of two classes and two buckets, one image each."""
    files = {f'{prefix}class_names.txt': 'boat\ncar'}
    index = {}
    for bucket in ('1', '2'):
        for number, name in enumerate(('boat', 'car')):
            image_id = f'{split}{bucket}{number}'
            image = f'labeled_images/{bucket}/{name}/{image_id}.jpg'
            files[f'{prefix}{image}'] = f'image {image_id}'
            files[f'{prefix}labeled_metadata/{bucket}/{name}.json'] = json.dumps({image_id: {'IMG_PATH': image}})
            index.setdefault(bucket, {})[name] = f'labeled_metadata/{bucket}/{name}.json'
    files[f'{prefix}labeled_metadata.json'] = json.dumps(index)
    return files


def old_files():
    return {'class_names.txt': 'boat\ncar', 'training_folder/bucket_indices.json': '["1"]',
            'training_folder/filelists/1/all.txt': 'labeled_images/1/car/5.jpg 1', 'labeled_images/1/car/5.jpg': 'x'}


def offer_clear10(server):
    server.files = {'clear10-train.zip': zip_of(part_files('8', 'train/')), 'clear10-test.zip': zip_of(part_files('9'))}
