"""Names for annotations: plain data, as configs, results and checkpoints hold it. None of them stands for `Any`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

# What JSON can say: configs as `to_plain` makes them, results, journals.
Plain: TypeAlias = 'None | bool | int | float | str | list[Plain] | dict[str, Plain]'

# Arguments by name that are read or passed on, never changed; whoever takes them checks them. Values may be anything
# that a config holds: Python configs have classes and tuples too.
Options: TypeAlias = Mapping[str, object]

# What an object says of itself for a checkpoint: tensors, arrays and plain values, nested in dicts and lists. Whoever
# reads one looks at the fields first (`clear.core.storage.damage`).
State: TypeAlias = dict[str, object]

# What a run logs of an epoch or an experience, by name: counts, means, and lists of what is measured per class.
LogEntry: TypeAlias = dict[str, int | float | list | None]
