"""The colours of pages, light and dark, as rules of a style sheet.

A scale runs from the colour of the page to its opposite, so that more is more ink by day, more light by night, and the
order is kept in grey. Steps were mixed in OKLab; on each, the ink written here has a contrast of at least 4.5 : 1.
"""

from __future__ import annotations

import textwrap

LEVELS = 11  # of a scale
STYLES = 6  # colours of lines, told apart by dashes and markers too

_PAGE = dict(
    light=dict(paper='#fdfdfc', ink='#17191c', soft='#5a6067', line='#d9dcdf', accent='#1d638c', warn='#b4530a'),
    dark=dict(paper='#14171a', ink='#e6e8ea', soft='#9da4ac', line='#363b41', accent='#7db4d6', warn='#f0994d'))
# Okabe and Ito's hues, told apart with any colour vision, darker or lighter until they stand out from the page.
_LINES = dict(light=('#0067a5', '#bf4a00', '#00785a', '#a0457c', '#7d5f00', '#3d434a'),
              dark=('#5fb0e6', '#f59053', '#3ec79d', '#e59cc8', '#e2bb4a', '#c3c9d0'))
_DARK_INK, _LIGHT_INK = dict(light='#14171a', dark='#0d1114'), dict(light='#ffffff', dark='#f4f6f7')
# Of each scale: its steps, and which of them carry dark ink.
_SCALES = dict(
    h=dict(light=('#f3f6f8 #d5e3ec #b7d1e0 #99bed4 #7aa8c4 #5a90b2 #3979a0 #1d638c #175073 #113d5c #0b2b45', range(6)),
           dark=('#1f262d #233543 #25455a #255572 #306989 #4686a7 #5396b6 #6eaecb #97c5da #c0dce9 #e8f4f8',
                 range(5, 11))),
    d=dict(light=('#9a4a00 #ba733e #d99c6c #ebbf99 #f0d9c6 #f4f4f2 #cbdce8 #a3c4de #76a2c6 #4578a3 #0f4f80',
                  range(1, 9)),
           dark=('#f2a35e #c77e41 #9e5b25 #754420 #4b3629 #23272b #263b4d #275072 #376d98 #5d96c1 #83c0ea',
                 (0, 1, 9, 10))))


def scale_colors(scale: str, theme: str) -> list[tuple[str, str]]:
    """(colour, ink on it) of each step, from low to high.

    Args:
        scale: 'h' of heat maps, 'd' of differences; the name of the classes, `h0`, `h1`, ...
        theme: 'light' or 'dark'.
    """
    steps, dark = _SCALES[scale][theme]
    return [(color, (_DARK_INK if step in dark else _LIGHT_INK)[theme]) for step, color in enumerate(steps.split())]


def color_rules() -> str:
    """The rules of both themes; paper is light."""
    lines = [f'.s{k} {{ stroke: var(--s{k}); }} .m{k} {{ fill: var(--s{k}); stroke: none; }}' for k in range(STYLES)]
    return '\n'.join([':root { color-scheme: light dark; }', _rules('light'), *lines,
                      '@media screen and (prefers-color-scheme: dark) {', textwrap.indent(_rules('dark'), '  '), '}'])


def _rules(theme: str) -> str:
    names = [*(f'--{name}: {color}' for name, color in _PAGE[theme].items()),
             *(f'--s{k}: {color}' for k, color in enumerate(_LINES[theme]))]
    return '\n'.join([f':root {{ {"; ".join(names)}; }}',
                      *(f'.{scale}{step} {{ background: {color}; fill: {color}; color: {ink}; }}'
                        for scale in _SCALES for step, (color, ink) in enumerate(scale_colors(scale, theme)))])
