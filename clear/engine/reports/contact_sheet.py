"""A result as one HTML file: images, scores and when they were uploaded, for people without a browser on the server."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from clear.curation.app.places import Hit, thumbnail
from clear.curation.explore import Histogram
from clear.visualization.page import write_page

_STYLE = 'display: inline-block; width: 11rem; margin: .3rem; vertical-align: top; font-size: .75rem'
_GREY = '<div style="width: 11rem; height: 6rem; background: #ddd"></div>'


def write_sheet(path: Path, title: str, parts: Mapping[str, Sequence[Hit]],
                scores: Mapping[str, Histogram] | None = None) -> Path:
    """Write the file, atomically; its path.

    Args:
        parts: heading -> images.
        scores: heading -> scores, drawn as bars of text below it.
    """
    body = [f'<h1>{escape(title)}</h1>']
    for heading, hits in parts.items():
        body += [f'<h2>{escape(heading)}</h2>', '<div>', *map(_figure, hits), '</div>']
        if scores and heading in scores:
            body.append(_bars(scores[heading]))
    return write_page(title, body, path)


def _figure(hit: Hit) -> str:
    lines = [f'{hit.rank}   {hit.score:.4f}', hit.id]
    lines += [f'bucket {hit.bucket}'] if hit.bucket is not None else []
    lines += [f'{hit.time:%Y-%m-%d}'] if hit.time is not None else []
    lines += [hit.title[:80]] if hit.title else []
    link = f'<br><a href="{escape(hit.link)}" rel="noreferrer noopener">page</a>' if hit.link else ''
    return f'<figure style="{_STYLE}">{_picture(hit)}<figcaption>{"<br>".join(map(escape, lines))}{link}</figcaption>' \
           '</figure>'


def _picture(hit: Hit) -> str:
    if hit.image is None:
        return _GREY
    buffer = io.BytesIO()
    thumbnail(hit.image).convert('RGB').save(buffer, 'JPEG', quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _bars(scores: Histogram) -> str:
    most = max(scores.counts.max(), 1)
    lines = [f'{low:8.4f}  {"#" * round(40 * count / most):<40}  {count:,}'
             for low, count in zip(scores.edges, scores.counts)]
    return '<pre>' + escape('\n'.join(lines)) + '</pre>'
