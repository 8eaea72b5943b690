"""Seeds: every random number of a run follows from one integer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor


class NumPyState(TypedDict):
    """What `numpy.random.get_state` returns, by name."""

    name: str
    keys: Tensor
    position: int
    has_gauss: int
    cached: float


class PythonState(TypedDict):
    """What `random.getstate` returns, by name."""

    version: int
    internal: Tensor
    gauss: float | None


class RngState(TypedDict):
    """Every generator of this process; `cuda` where there are GPUs."""

    torch: Tensor
    numpy: NumPyState
    python: PythonState
    cuda: NotRequired[list[Tensor]]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from a run seed and what it is for, e.g. `derive_seed(seed, 'epoch', 3, 0)`.

    The same parts give the same number on every machine and Python; different parts give unrelated numbers.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def derive_seeds(first: Sequence[object], last: Iterable[object]) -> Iterator[int]:
    """`derive_seed(*first, each)` of many last parts, for a tenth of the time; `first` has at least one part."""
    common = hashlib.blake2b(f'({", ".join(map(repr, first))}, '.encode(), digest_size=8)
    for each in last:
        digest = common.copy()
        digest.update(f'{each!r})'.encode())
        yield int.from_bytes(digest.digest(), 'little') >> 1


def seed_everything(seed: int) -> None:
    """Seed torch (every device), NumPy and `random`."""
    seed_torch(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seed_torch(seed: int) -> None:
    """Seed torch's generators. Without an accelerator `torch.manual_seed` would spend a millisecond on noting it for
    devices that may come, which is felt where it is called for every epoch.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """Seed the global generators of torch (CPU), NumPy and `random` for a block, then put their states back."""
    # The CPU generator by name: `torch.manual_seed` would also reseed every GPU.
    generator = torch.default_generator
    states = generator.get_state(), np.random.get_state(), random.getstate()
    generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def get_rng_state() -> RngState:
    """The state of the CPU generators of torch, NumPy and `random` (and CUDA's), as tensors and plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state: RngState = dict(
        torch=torch.get_rng_state(),
        numpy=dict(name=name, keys=torch.from_numpy(keys.astype(np.int64)), position=position, has_gauss=has_gauss,
                   cached=cached),
        python=dict(version=version, internal=torch.tensor(internal, dtype=torch.int64), gauss=gauss_next))
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: RngState) -> None:
    """Restore what `get_rng_state` returned. States of GPUs that are absent here are left alone."""
    torch.set_rng_state(state['torch'])
    numpy = state['numpy']
    np.random.set_state((numpy['name'], numpy['keys'].numpy().astype(np.uint32), numpy['position'],
                         numpy['has_gauss'], numpy['cached']))
    python = state['python']
    random.setstate((python['version'], tuple(python['internal'].tolist()), python['gauss']))
    if 'cuda' in state and torch.cuda.device_count() == len(state['cuda']):
        torch.cuda.set_rng_state_all(state['cuda'])
