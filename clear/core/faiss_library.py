"""The choice between faiss and torch for what searches among vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from clear.core.checks import check_choice
from clear.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

BACKENDS = ('auto', 'torch', 'faiss')


def check_backend(backend: str) -> str:
    """`backend`, refused unless it is known."""
    return check_choice('backend', backend, BACKENDS)


def faiss_for(backend: str) -> ModuleType | None:
    """The faiss module if `backend` wants it and it is there.

    Raises:
        ConfigError: if it is asked for by name and missing.
    """
    if backend == 'torch':
        return None
    try:
        import faiss
    except ImportError as error:
        if backend == 'faiss':
            raise ConfigError("backend='faiss' needs faiss: pip install 'clear-framework[curate]', or use "
                              "backend='torch'.") from error
        return None
    return faiss


@contextmanager
def torch_threads(faiss: ModuleType) -> Iterator[None]:
    """Let faiss use as many threads as torch may."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
