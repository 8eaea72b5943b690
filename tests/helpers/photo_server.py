"""A local host of files that answers as it is told and remembers who asked; and records of photos that lie there."""

import io
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow
from PIL import Image

from clear.curation.metadata.records import SCHEMA

PATIENT = dict(robots=False, host_rate=None, backoff_s=0.01, retries=1, connections=8, host_connections=8)


class FileHost:
    """A local host of photos.

    Attributes:
        files: path -> bytes.
        statuses: path -> a status for each next request; behind them the file.
        delay_s: before an answer.
        log: paths in the order of requests.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}
        self.delay_s = 0.0
        self.log: list[str] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):
                outer._answer(self)

            def log_message(self, *args):
                pass

        class Host(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, request, address):
                pass  # clients are killed

        self.http = Host(('127.0.0.1', 0), Handler)
        self.http.daemon_threads = True
        self.origin = f'127.0.0.1:{self.http.server_port}'
        self.url = f'http://{self.origin}'
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs=dict(poll_interval=0.01))
        self._thread.start()

    def close(self):
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()

    def _answer(self, request):
        with self._lock:
            self.log.append(request.path)
            left = self.statuses.get(request.path)
            status = left.pop(0) if left else 200 if request.path in self.files else 404
        time.sleep(self.delay_s)
        body = self.files[request.path] if status == 200 else b'no'
        request.send_response(status)
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@contextmanager
def serving():
    server = FileHost()
    try:
        yield server
    finally:
        server.close()


def photo(seed, width=20, height=20, kind='JPEG'):
    """The file of a small image that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


def records(rows, **more):
    """Records of dicts; what a row does not say is a photo with a valid date, and its line is its place.

    Args:
        more: types of columns that records of YFCC100M lack, e.g. caption.
    """
    schema = pyarrow.schema([*SCHEMA, *more.items()])
    uploaded = datetime(2010, 1, 1, tzinfo=UTC)
    full = [dict(id=number + 100, line=number, is_video=False, uploaded_at=uploaded + timedelta(days=40 * number),
                 taken_at=datetime(2009, 1, 1), taken_at_is_local=True) | row for number, row in enumerate(rows)]  # noqa: DTZ001
    return pyarrow.Table.from_pylist(full, schema)
