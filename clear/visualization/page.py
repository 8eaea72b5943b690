"""Self-contained HTML pages: styles and images stand in the file itself, and a content policy forbids every request.

One frame for all: light and dark, on a phone, on paper and in grey. Whoever makes the body escapes its texts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from clear.core.files import atomic_writer
from clear.visualization.html.colors import color_rules

_STYLE = """
body { margin: 0; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 2.5rem) 4rem; }
h1 { font-size: clamp(1.45rem, 1.1rem + 1.5vw, 2.1rem); line-height: 1.2; font-weight: 650; letter-spacing: -.015em;
  margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; line-height: 1.3; font-weight: 650; margin: 2.5rem 0 .75rem; }
h3 { font-size: .95rem; font-weight: 650; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft, caption, figcaption, dt { color: var(--soft); font-size: .85rem; }
.kind { color: var(--soft); margin: 0 0 .25rem; font-size: .9rem; }
.warning { border-left: 3px solid var(--warn); padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }
a { color: inherit; }
header { border-bottom: 1px solid var(--line); padding-bottom: 1.5rem; }
dl.about { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 1.25rem 0 0; }
dl.about div { min-width: 0; max-width: 30rem; } dd { margin: 0; }
ul.numbers { list-style: none; padding: 0; margin: 1.75rem 0 0; display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)); gap: 1.25rem 2rem; }
ul.numbers li { border-top: 2px solid var(--ink); padding-top: .5rem; min-width: 0; }
ul.numbers span { display: block; }
.value { font-size: 2.1rem; line-height: 1.15; font-weight: 600; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.spread { font-size: 1rem; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.label { font-weight: 600; }
details { border-top: 1px solid var(--line); } header + details { border-top: 0; }
summary { cursor: pointer; padding: .9rem 0; list-style-position: outside; margin-left: 1.1rem; }
summary h2, summary h3 { display: inline; margin: 0; } summary .soft { margin-left: .5rem; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
details > .inside { padding: 0 0 1.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; max-width: 100%; }
caption { text-align: left; padding-bottom: .35rem; }
th { font-weight: 500; } thead th, tr:first-child th[scope=col] { color: var(--soft); font-size: .85rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; padding: .3rem 0 .3rem .8rem; }
td.number small { display: block; line-height: 1.2; color: var(--soft); font-size: .8em; }
table.overview { table-layout: fixed; width: 100%; } table.overview th:first-child { width: 24%; }
table.overview td.number, table.overview th.number { padding-left: .6rem; }
table.facts { width: 100%; max-width: 46rem; } table.facts th { width: 40%; color: var(--soft); }
.scroll { overflow-x: auto; max-width: 100%; }
figure { margin: 1rem 0; min-width: 0; }
figure.paper { background: #fff; padding: .5rem; border: 1px solid var(--line); width: fit-content; max-width: 100%;
  box-sizing: border-box; }
img { max-width: 100%; height: auto; display: block; }
pre { font-size: .8rem; line-height: 1.45; white-space: pre-wrap; margin: .5rem 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem 2rem;
  align-items: start; }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.grid > * { min-width: 0; margin: 0; }
.single { max-width: 26rem; }
.panel > figcaption, .rows caption { color: var(--ink); font-weight: 600; font-size: .9rem; padding-bottom: .25rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 10.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.axis { stroke: var(--line); stroke-width: 1; fill: none; } .gone { stroke: var(--soft); stroke-width: .6; fill: none; }
.mark { stroke: var(--soft); stroke-dasharray: 2 3; }
.range { fill: var(--line); opacity: .55; stroke: none; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
ul.key { list-style: none; padding: 0; margin: .5rem 0 1rem; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem;
  font-size: .85rem; }
ul.key li { display: flex; align-items: center; gap: .5rem; min-width: 0; max-width: 100%; }
ul.key svg { flex: none; width: 2.2rem; height: .9rem; }
.scale { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1rem; font-size: .85rem; color: var(--soft);
  margin: .25rem 0 1rem; max-width: none; font-variant-numeric: tabular-nums; }
.scale span { display: inline-flex; align-items: center; gap: .4rem; }
.scale b { display: inline-flex; } .scale i { width: 1.05rem; height: .9rem; box-sizing: border-box; display: block; }
.frame { container-type: inline-size; }
table.matrix { table-layout: fixed; width: 100%; border-collapse: separate; border-spacing: 1px; margin: 0;
  font-size: clamp(9.5px, 1.4cqi + 5px, 13px); line-height: 1.2; }
table.matrix.signed { font-size: clamp(8.4px, 1.4cqi + 3.6px, 13px); }
table.matrix th { color: var(--soft); font-size: 1em; padding: .25em .3em .25em 0; border: 0; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; vertical-align: middle; }
table.matrix th[scope=col] { text-align: center; padding: .25em 0; }
table.matrix tr:first-child th[scope=col] { font-size: 1em; }
table.matrix td { padding: .45em 0; border: 0; text-align: center; white-space: nowrap; overflow: hidden; }
@container (max-width: 27rem) {
  table.matrix.named th[scope=col]:not(:first-child) { writing-mode: vertical-rl; transform: rotate(180deg);
    text-align: left; padding: .3em .1em; }
}
table.matrix.tilted th[scope=col]:not(:first-child) { writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 8em; text-align: left; padding: .3em .1em; }
table.matrix tr > :first-child { width: clamp(2.7rem, 15cqi, 7rem); text-align: left; }
.heat { max-width: 34rem; }
td.own, i.own { box-shadow: inset 0 0 0 1.5px currentColor; }
td.missing, i.missing { background: repeating-linear-gradient(135deg, transparent 0 3px, var(--line) 3px 4px);
  color: var(--soft); }
td.overlap { font-style: italic; text-decoration: underline dotted; text-underline-offset: .2em; }
.blocks { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.blocks > * { flex: 1 1 18rem; min-width: 0; max-width: 34rem; }
table.rows { width: 100%; table-layout: fixed; font-size: .85rem; }
table.rows th, table.rows td { padding: .2rem 0; vertical-align: middle; }
table.rows th { width: 37%; line-height: 1.25; padding-right: .6rem; }
table.rows th span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
table.rows td.number { width: 4.9rem; line-height: 1.2; } table.rows td.number:last-child { width: 4.2rem; }
svg.dots { height: 14px; }
svg.dots line { stroke: var(--line); } svg.dots .zero { stroke: var(--soft); }
svg.dots .spread { stroke: currentColor; stroke-width: 2; }
svg.dots circle { fill: var(--accent); } svg.dots circle.one { opacity: .4; }
@media (max-width: 40rem) {
  main { padding-top: 1.25rem; } th, td { padding-right: .5rem; } td.number, th.number { padding-left: .4rem; }
  ul.numbers { gap: .75rem; } ul.numbers li { display: grid; grid-template-columns: 6.5rem 1fr; column-gap: 1rem; }
  .value { font-size: 1.7rem; grid-row: span 2; } .value .spread { display: block; font-size: .85rem; }
  table.overview tr:first-child { display: none; }
  table.overview, table.overview tbody, table.overview tr, table.overview th { display: block; }
  table.overview th:first-child { width: auto; }
  table.overview tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  table.overview th { border: 0; padding: 0; font-weight: 600; }
  table.overview td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0;
    text-align: right; }
  table.overview td::before { content: attr(data-name); color: var(--soft); text-align: left; min-width: 0; }
  table.overview td small { display: inline; }
}
@media print {
  :root { color-scheme: only light; } body { font-size: 9.5pt; background: #fff; }
  main { max-width: none; padding: 0; }
  body, td, i, svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; display: block; }
  summary { list-style: none; margin-left: 0; } summary::-webkit-details-marker { display: none; }
  h2, h3, summary, figcaption, caption { break-after: avoid; }
  figure, tr, ul.numbers li, .grid > *, .frame { break-inside: avoid; }
  .scroll { overflow: visible; } table { max-width: none; }
  .grid, .grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 7.5cm), 1fr)); }
}
"""
# A matrix takes the place of its columns and no more.
_WIDTHS = ''.join(f'table.w{columns} {{ max-width: {4.5 + 3.2 * columns:g}rem; }}\n' for columns in range(1, 13))
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(title: str, body: Sequence[str], path: str | Path) -> Path:
    """Write a page of these pieces of HTML, atomically; its path.

    Args:
        title: as text.
    """
    page = ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f'<title>{escape(title)}</title>\n<style>\n{color_rules()}{_STYLE}{_WIDTHS}</style>\n</head>\n<body>\n<main>\n'
            + '\n'.join(piece for piece in body if piece) + '\n</main>\n</body>\n</html>\n')
    with atomic_writer(path) as file:
        file.write(page.encode())  # UTF-8, as the page says, whatever the locale
    return Path(path)


def head_of(kind: str, title: str, facts: Mapping[str, str], numbers: Sequence[str] = (), notes: Sequence[str] = ()
            ) -> str:
    """The head of a page: what it is about, what was run, and the numbers that matter.

    Args:
        facts: name -> text.
        numbers: HTML, as `number_of` makes it.
        notes: warnings, as text.
    """
    about = ''.join(f'<div><dt>{escape(name)}</dt><dd>{breakable(text)}</dd></div>' for name, text in facts.items())
    return '\n'.join(part for part in (
        f'<header>\n<p class="kind">{escape(kind)}</p>\n<h1>{breakable(title)}</h1>',
        *(f'<p class="warning">{escape(note)}</p>' for note in notes),
        f'<dl class="about">{about}</dl>' if about else '',
        f'<ul class="numbers">{"".join(numbers)}</ul>' if numbers else '', '</header>') if part)


def number_of(label: str, value: str, note: str = '', spread: str = '') -> str:
    """One of the large numbers of a head."""
    beside = f' <span class="spread">{escape(spread)}</span>' if spread else ''
    return (f'<li><span class="value">{escape(value)}{beside}</span><span class="label">{breakable(label)}</span>'
            f'<span class="soft">{escape(note)}</span></li>')


def fold_of(title: str, inside: Iterable[str], is_open: bool = True, note: str = '', level: int = 2) -> str:
    """A panel that folds, with its title as a heading and a note beside it; paper has all of them open."""
    beside = f'<span class="soft">{escape(note)}</span>' if note else ''
    return (f'<details{" open" if is_open else ""}><summary><h{level}>{escape(title)}</h{level}>{beside}</summary>\n'
            '<div class="inside">\n' + '\n'.join(piece for piece in inside if piece) + '\n</div></details>')


def facts_of(facts: Mapping[str, str]) -> str:
    """Names and texts in two columns."""
    lines = [f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in facts.items()]
    return '<table class="facts">\n' + '\n'.join(lines) + '\n</table>'


def table_of(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts with a line of names above; all but the first column are set as numbers."""
    head = ''.join(f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if k else ""}>{breakable(name)}</th>'
                   for k, name in enumerate(names))
    lines = [f'<tr>{head}</tr>']
    for first, *others in rows:
        cells = ''.join(f'<td class="number">{escape(text)}</td>' for text in others)
        lines.append(f'<tr><th scope="row">{breakable(first)}</th>{cells}</tr>')
    return '<div class="scroll" tabindex="0"><table>\n' + '\n'.join(lines) + '\n</table></div>'


def figure_of(stem: str, png: bytes) -> str:
    """A PNG with its name as description, on white in the dark too."""
    data = base64.b64encode(png).decode()
    return (f'<figure class="paper"><img alt="{escape(stem.replace("_", " "))}" '
            f'src="data:image/png;base64,{data}"></figure>')


def breakable(text: str) -> str:
    """A text, escaped, that may break after underscores."""
    return escape(text).replace('_', '_<wbr>')
