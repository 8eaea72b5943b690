"""Pictures of HTML pages, as of a report, at several widths by day and by night."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/visualization/screenshots.py work_dirs/demo/report.html compare/report.html --out screenshots

Needs Chromium (apt-get install chromium) and playwright (pip install 'clear-framework[dev]'). Pages are read from disk;
whatever they ask for from the network is refused.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pages', nargs='+', type=Path, metavar='PAGE', help='an HTML file')
    parser.add_argument('--out', type=Path, default=Path('screenshots'), help='folder (default: ./screenshots)')
    parser.add_argument('--widths', nargs='+', type=int, default=[360, 800, 1400], metavar='PIXELS',
                        help='of the window (default: 360 800 1400)')
    parser.add_argument('--themes', nargs='+', choices=('light', 'dark'), default=['light', 'dark'],
                        help='default: both')
    parser.add_argument('--height', type=int, metavar='PIXELS', help='cut below (default: the whole page)')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: draw(parse_args(argv)))


def draw(args: argparse.Namespace) -> None:
    """Write `OUT/<folder>-<page>-<width>-<theme>.png` of each page."""
    import shutil

    from clear.core.errors import DataError
    from clear.core.files import atomic_writer

    missing = [str(page) for page in args.pages if not page.is_file()]
    if missing:
        raise DataError(f'{", ".join(missing)}: no such page.')
    chromium = shutil.which('chromium')
    if chromium is None:
        raise DataError('There is no Chromium to draw pages with: apt-get install chromium')
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise DataError("Pictures of pages need playwright: pip install 'clear-framework[dev]'") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        for page in args.pages:
            for width in args.widths:
                for theme in args.themes:
                    tab = browser.new_page(viewport=dict(width=width, height=args.height or 900), color_scheme=theme)
                    tab.route(lambda url: not url.startswith('file:'), lambda route: route.abort())
                    tab.goto(page.resolve().as_uri())
                    path = args.out / f'{page.resolve().parent.name}-{page.stem}-{width}-{theme}.png'
                    with atomic_writer(path) as file:
                        file.write(tab.screenshot(full_page=args.height is None))
                    tab.close()
                    print(f'wrote {path}')
        browser.close()


if __name__ == '__main__':
    sys.exit(main())
