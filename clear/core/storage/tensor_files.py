"""Reading files of tensors: checksums, objects of other libraries as inert records, bounds on what a file means."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clear.core.errors import CheckpointError

# What a file's tensors may hold together: a view can repeat its storage, and so can be far larger than the file.
MAX_EXPANSION = 4
FREE_BYTES = 64 << 20
MAX_VALUES = 100_000_000
MAX_DEPTH = 100
_PIECE_BYTES = 1 << 18
_LOCAL_HEADER = struct.Struct('<4s22xHH')  # of a member of a zip file: mark, length of the name, of the extra field
_PLAIN_TYPES = frozenset((int, float, bool, str, bytes, complex, type(None)))


class Record:
    """Stands for an object of another library: holds what the file says of it as data, and does nothing."""

    args: tuple
    state: object

    def __new__(cls, *args: object) -> Record:
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: object) -> None:
        self.state = state


def _dict_with_default(*factory: object) -> OrderedDict:
    """Stands for `defaultdict`: what is missing from it is missing."""
    return OrderedDict()


# What checkpoints of other libraries hold beside tensors: mmengine's message hub and configs, arguments of timm and
# DINO, hyper-parameters of Lightning (lightly) and OmegaConf (solo-learn), people's own best accuracies and dates.
# Nothing of these libraries is imported or called: `getattr`, too, is only a record of its arguments.
_RECORDS = {
    'mmengine': ('logging.history_buffer.HistoryBuffer', 'config.config.Config', 'config.config.ConfigDict'),
    'omegaconf': ('dictconfig.DictConfig', 'listconfig.ListConfig', 'base.Metadata', 'base.ContainerMetadata',
                  *(f'nodes.{kind}Node' for kind in ('Any', 'String', 'Integer', 'Float', 'Boolean', 'Bytes', 'Path',
                                                     'Enum', 'InterpolationResult'))),
    # Before 1.5 Lightning kept what callbacks remember under their classes.
    'pytorch_lightning': tuple(f'callbacks.{name}' for name in (
        'model_checkpoint.ModelCheckpoint', 'early_stopping.EarlyStopping', 'timer.Timer',
        'finetuning.BackboneFinetuning')),
    'builtins': ('getattr', 'object', 'bool', 'int', 'float', 'complex', 'str', 'bytes', 'list', 'tuple', 'dict',
                 'frozenset', 'range', 'slice'),
    'argparse': ('Namespace',),
    'types': ('SimpleNamespace',),
    'typing': ('Any', 'Union', 'Optional'),
    'datetime': ('datetime', 'date', 'time', 'timedelta', 'timezone'),
    'numpy': ('ndarray', 'dtype', *(f'{core}.multiarray.{name}' for core in ('core', '_core')
                                    for name in ('scalar', '_reconstruct'))),
    **dict.fromkeys(('pathlib', 'pathlib._local'), ('Path', 'PosixPath', 'WindowsPath', 'PurePath', 'PurePosixPath',
                                                    'PureWindowsPath')),
}
AS_RECORDS = tuple(f'{module}.{name}' for module, names in _RECORDS.items() for name in names)
# Dicts with something added to them: torch's unpickler fills no other kinds.
_AS_DICTS = {'collections.defaultdict': _dict_with_default,
             **{f'{module}.AttributeDict': OrderedDict for module in (
                 'pytorch_lightning.utilities.parsing', 'lightning.pytorch.utilities.parsing',
                 'lightning_fabric.utilities.data', 'lightning.fabric.utilities.data')}}
_STAND_INS = [*((Record, name) for name in AS_RECORDS), *((kind, name) for name, kind in _AS_DICTS.items())]


def read_torch_file(path: Path, map_location: str) -> Any:
    """`torch.load` with `weights_only=True`, the checksums of the file, and `AS_RECORDS`.

    Raises:
        CheckpointError: if a part of the file does not match its checksum, or its values go beyond the bounds above
            or have no ordinary tensors. What torch raises on other damage is left to the caller.
    """
    with path.open('rb') as file, torch.serialization.safe_globals(_STAND_INS):
        if not zipfile.is_zipfile(file):  # written before torch 1.6: no checksums
            value = torch.load(path, map_location=map_location, weights_only=True)
        else:
            summed = _SummedFile(file, path)
            value = torch.load(summed, map_location=map_location, weights_only=True)
            summed.finish()
        _Bounds(path, os.fstat(file.fileno()).st_size).count(value)
    return value


class _SummedFile:
    """A zip file whose members are summed while they are read, so that each byte is read once.

    Every member has a CRC-32, which torch itself does not look at; zero stands for none
    (`torch.serialization.set_crc32_options(False)`).
    """

    def __init__(self, file: io.BufferedReader, path: Path):
        self.file, self.path = file, path
        self.damaged: str | None = None  # the first member that does not match
        self._open: dict[int, tuple[zipfile.ZipInfo, int, int]] = {}  # next byte -> member, bytes left, sum so far
        size, stands_for = os.fstat(file.fileno()).st_size, 0
        for member in zipfile.ZipFile(file).infolist():
            stands_for += member.file_size
            if member.compress_type == zipfile.ZIP_STORED and member.CRC and member.file_size:
                file.seek(member.header_offset)
                mark, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                begin = member.header_offset + _LOCAL_HEADER.size + name + extra
                self._open[begin] = (member, member.file_size, 0)
        if stands_for > MAX_EXPANSION * size + FREE_BYTES:
            raise CheckpointError(f'{path} has {size:,} bytes, but stands for {stands_for:,}; it was not read.')
        file.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readline(self) -> bytes:
        return self.file.readline()

    def read(self, size: int = -1) -> bytes:
        at = self.file.tell()
        content = self.file.read(size)
        self._add(at, content)
        return content

    def readinto(self, buffer: bytearray | memoryview) -> int:
        at, done, view = self.file.tell(), 0, memoryview(buffer).cast('B')
        while done < len(view):
            # Pieces that are still in the processor's cache when they are summed.
            piece = view[done:done + _PIECE_BYTES]
            count = self.file.readinto(piece)
            self._add(at + done, piece[:count])
            done += count
            if count < len(piece):
                break
        return done

    def _add(self, at: int, content: bytes | memoryview) -> None:
        member, left, total = self._open.pop(at, (None, 0, 0))
        if member is None:
            return
        content = content[:left]
        left, total = left - len(content), zlib.crc32(content, total)
        if left:
            self._open[at + len(content)] = (member, left, total)
        elif total != member.CRC:
            self.damaged = self.damaged or member.filename  # said by `finish`: torch would wrap an error raised here

    def finish(self) -> None:
        """Read what torch had no use for.

        Raises:
            CheckpointError: if a member does not match its checksum.
        """
        while self._open and self.damaged is None:
            begin, (_, left, _) = next(iter(self._open.items()))
            self.file.seek(begin)
            if not self.read(min(left, _PIECE_BYTES)):
                break
        if self._open or self.damaged is not None:
            raise CheckpointError(f'{self.path} is damaged: {self.damaged or "a part"} does not match its checksum. '
                                  'Take another copy, or an earlier checkpoint.')


class _Bounds:
    """Walks through what a file held; a part that is named several times counts each time, as it does for readers."""

    def __init__(self, path: Path, file_bytes: int):
        self.path = path
        self.bytes_left = MAX_EXPANSION * file_bytes + FREE_BYTES
        self.counts: dict[int, int] = {}
        self.tensors: set[int] = set()

    def count(self, value: object, depth: int = 0) -> int:
        """Values in `value`, itself included.

        Raises:
            CheckpointError: if there are too many, it holds itself, or a tensor is none of the ordinary kind.
        """
        if isinstance(value, torch.Tensor):
            self._tensor(value)
            return 1
        if isinstance(value, Mapping):
            parts = [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            parts = value
        elif isinstance(value, Record):
            parts = (value.args, value.state)
        else:
            return 1
        if id(value) not in self.counts:
            if isinstance(value, Record):
                self.counts[id(value)] = 1  # nodes of OmegaConf know the dict that holds them; nobody walks in circles
            if depth > MAX_DEPTH:
                raise CheckpointError(f'{self.path} is nested more than {MAX_DEPTH} deep, or holds itself.')
            plain = set(map(type, parts)) <= _PLAIN_TYPES
            total = 1 + (len(parts) if plain else sum(self.count(part, depth + 1) for part in parts))
            if total > MAX_VALUES:
                raise CheckpointError(f'{self.path} stands for more than {MAX_VALUES:,} values.')
            self.counts[id(value)] = total
        return self.counts[id(value)]

    def _tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self.tensors:
            return
        self.tensors.add(id(tensor))
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta:
            kind = 'quantised' if tensor.is_quantized else 'meta' if tensor.is_meta else 'sparse or nested'
            raise CheckpointError(f'{self.path} holds a {kind} tensor of shape {tuple(tensor.shape)}; ordinary tensors '
                                  'are read.')
        self.bytes_left -= tensor.numel() * tensor.element_size()
        if self.bytes_left < 0:
            raise CheckpointError(f'{self.path} has tensors that are far larger than the file, by repeating what it '
                                  f'holds; one has shape {tuple(tensor.shape)}. It was not loaded.')


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file by name.

    Raises:
        CheckpointError: if it is damaged or none.
    """
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f'{path} is damaged or no safetensors file: {error}') from error
