"""What the documentation says, taken apart: fenced blocks, commands, tables, links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / 'README.md', ROOT / 'README_zh-CN.md']
PAGES = [*READMES, *sorted((ROOT / 'docs').rglob('*.md'))]
_FENCE = re.compile(r'^```(\S*)[ \t]*\n(.*?)^```[ \t]*$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\]\(([^)\s]+)\)')
_FILE_NAME = re.compile(r'# ([\w./-]+\.py)\n')
_CELL = re.compile(r'(?<!\\)\|')


@dataclass(frozen=True)
class Command:
    """One command line: `A=0 python tools/x.py b` is the variables {'A': '0'} and the words from `python` on."""

    page: str
    text: str

    @property
    def variables(self) -> dict[str, str]:
        return dict(word.split('=', 1) for word in shlex.split(self.text)[:self._start])

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)[self._start:]

    @property
    def _start(self) -> int:
        words = shlex.split(self.text)
        return next(i for i, word in enumerate(words) if not re.match(r'[A-Z_]+=', word))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in that language; every fence must name one."""
    found = _FENCE.findall(page.read_text())
    assert all(name for name, _ in found), f'{page}: a fenced block without a language'
    return [text for name, text in found if name == language]


def languages(page: Path) -> set[str]:
    return {name for name, _ in _FENCE.findall(page.read_text())}


def commands(page: Path) -> list[Command]:
    """Every command of a page's bash blocks; a line that ends in a backslash goes on."""
    lines = [line for text in blocks(page, 'bash') for line in text.replace('\\\n', ' ').splitlines()]
    return [Command(page.name, ' '.join(line.split())) for line in lines if line.strip() and not line.startswith('#')]


def unique_commands() -> list[Command]:
    """The commands of all pages, each text once, where it stands first."""
    found: dict[str, Command] = {}
    for command in (command for page in PAGES for command in commands(page)):
        found.setdefault(command.text, command)
    return list(found.values())


def python_files() -> dict[str, str]:
    """File name -> content of the Python blocks of all pages whose first line is `# <file name>`."""
    files: dict[str, str] = {}
    for page in PAGES:
        for text in blocks(page, 'python'):
            first = _FILE_NAME.match(text)
            if first:
                assert files.get(first[1], text) == text, f'{page}: another {first[1]} stands elsewhere'
                files[first[1]] = text
    return files


def python_fragments() -> list[tuple[str, str]]:
    """(page, content) of the Python blocks that are no whole file."""
    return [(page.name, text) for page in PAGES for text in blocks(page, 'python') if not _FILE_NAME.match(text)]


def links(page: Path) -> list[str]:
    """Targets of links and pictures, outside fenced blocks."""
    return _LINK.findall(_FENCE.sub('', page.read_text()))


def table(page: Path, header: str) -> list[list[str]]:
    """Cells of the rows of the one table whose first header cell is `header` (of the first such one below it)."""
    lines = page.read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if _cells(line)[:1] == [header]]
    assert starts, f'{page}: no table that begins with {header!r}'
    return _rows(lines, starts[0])


def tables_below(page: Path, heading: str) -> list[list[str]]:
    """Rows of the first table below a heading."""
    lines = page.read_text().splitlines()
    assert heading in lines, f'{page}: no heading {heading!r}'
    start = next(i for i in range(lines.index(heading), len(lines)) if lines[i].startswith('|'))
    return _rows(lines, start)


def _rows(lines: list[str], header: int) -> list[list[str]]:
    rows = []
    for line in lines[header + 2:]:
        if not line.startswith('|'):
            break
        rows.append(_cells(line))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL.split(line)[1:-1]]


def names_in(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r'`([^`]+)`', cell)
