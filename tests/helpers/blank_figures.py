"""Blank pages in place of figures: drawing those of a run takes longer than the run itself.

The files have the same names, and are written in the same way.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import pytest
from PIL import Image

from clear.visualization import figures

_PNG = io.BytesIO()
Image.new('L', (1, 1), 255).save(_PNG, 'PNG')
BLANK = {(figures, name): lambda results: None for name in ('matrix_figure', 'timeline_figure', 'forgetting_figure')}
BLANK |= {(figures, 'to_png'): lambda figure: _PNG.getvalue()}
DRAWN = {(module, name): getattr(module, name) for module, name in BLANK}


@contextlib.contextmanager
def drawing_by(functions: Mapping[tuple[ModuleType, str], Callable]) -> Iterator[None]:
    """Draw by `BLANK` or `DRAWN` functions inside."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), function in functions.items():
            patch.setattr(module, name, function)
        yield
