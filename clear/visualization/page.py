"""Self-contained HTML pages: styles and images stand in the file itself, and a content policy forbids every request.

They read on a phone and print. Whoever makes the body escapes its texts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from clear.core.files import atomic_writer

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; margin: .5rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
table.matrix { font-size: .8rem; } table.matrix td, table.matrix th { padding: .2rem .35rem; }
td.missing { background: #ddd; }
td.overlap { font-style: italic;
  background: repeating-linear-gradient(45deg, #f6e3d6, #f6e3d6 4px, #fff 4px, #fff 8px); }
.warning { border-left: 4px solid #d55e00; padding-left: .8rem; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .8rem; }
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, table { break-inside: avoid; } section + section { break-before: page; }
  pre { white-space: pre-wrap; } .scroll { overflow: visible; } table.matrix { font-size: 7pt; }
}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(title: str, body: Sequence[str], path: str | Path) -> Path:
    """Write a page of these pieces of HTML, atomically; its path.

    Args:
        title: as text.
    """
    page = ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n'
            + '\n'.join(body) + '\n</body>\n</html>\n')
    with atomic_writer(path) as file:
        file.write(page.encode())  # UTF-8, as the page says, whatever the locale
    return Path(path)


def table_row(tag: str, texts: Sequence[str], scope: str) -> str:
    """A row of `th` or `td` cells of these texts."""
    return '<tr>' + ''.join(f'<{tag} scope="{scope}">{escape(text)}</{tag}>' for text in texts) + '</tr>'


def table_of(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts with a line of names above; all but the first column are set as numbers."""
    lines = [table_row('th', names, 'col')]
    for first, *others in rows:
        cells = ''.join(f'<td class="number">{escape(text)}</td>' for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return '<div class="scroll"><table>\n' + '\n'.join(lines) + '\n</table></div>'


def figure_of(stem: str, png: bytes) -> str:
    """A PNG with its name as description."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(stem.replace("_", " "))}" src="data:image/png;base64,{data}"></figure>'
