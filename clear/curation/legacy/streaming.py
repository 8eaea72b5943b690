"""JSON of any size, value by value: what is in memory is one value, however long the list around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import regular_file

PIECE = 1 << 20
MAX_VALUE = 64 << 20
_BLANKS = ' \t\n\r'
_OF_NUMBERS, _MARGIN = frozenset('0123456789.eE+-'), 32


class JsonStream:
    """A JSON file read forwards; a context manager.

    Raises:
        DataError: here or later, if it is missing, no text in UTF-8 or no JSON, or a value that is asked for as a whole
            is longer than `max_value` characters.
    """

    def __init__(self, path: str | Path, max_value: int = MAX_VALUE):
        self.path, self.max_value = regular_file(path), max_value
        self._file = self.path.open(encoding='utf-8-sig')
        self._text, self._at, self._passed = '', 0, 0
        self._decoder = json.JSONDecoder()

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ''

    def value(self) -> object:
        """The next value as a whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._read():
                    raise self._wrong(error.msg) from error
            except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
                raise self._wrong(str(error) or 'nested too deep') from error
            else:
                # A number may go on behind what has been read, also as `1` of `1.5` or `1e5`.
                is_whole = not set(self._text[end:end + _MARGIN]) <= _OF_NUMBERS or len(self._text) - end > _MARGIN
                if is_whole or not self._read():
                    self._at = end
                    return value
            if len(self._text) - self._at > self.max_value:
                raise self._wrong(f'a value is longer than {self.max_value:,} characters, or never ends')

    def elements(self) -> Iterator[None]:
        """Go through a list: at each step its next element is to be read."""
        yield from self._through('[', ']')

    def items(self) -> Iterator[str]:
        """Go through an object: at each key its value is to be read."""
        for _ in self._through('{', '}'):
            key = self.value()
            if not isinstance(key, str):
                raise self._wrong('a key is no text')
            self._take(':')
            yield key

    def skip(self) -> None:
        """Leave the next value out, however long."""
        first = self.peek()
        if first == '[':
            for _ in self.elements():
                self.skip()
        elif first == '{':
            for _ in self.items():
                self.skip()
        else:
            self.value()

    def end(self) -> None:
        """Nothing may follow."""
        if self.peek():
            raise self._wrong('something follows the end')

    def _through(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() == closing:
            self._at += 1
            return
        while True:
            yield
            if self.peek() == closing:
                self._at += 1
                return
            self._take(',')

    def _take(self, expected: str) -> None:
        if self.peek() != expected:
            raise self._wrong(f"expected '{expected}'")
        self._at += 1

    def _read(self) -> bool:
        # Twice as much as waits, so that a long value is not begun anew at every piece.
        try:
            piece = self._file.read(max(PIECE, len(self._text) - self._at))
        except UnicodeDecodeError as error:
            raise DataError(f'{self.path} is no text in UTF-8: {error.reason}.') from error
        self._passed += self._at
        self._text, self._at = self._text[self._at:] + piece, 0
        return bool(piece)

    def _wrong(self, reason: str) -> DataError:
        place = self._passed + self._at
        return DataError(f'{self.path} is no valid JSON at character {place:,}: {reason}. Is it cut short?')
