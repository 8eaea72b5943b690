"""DuckDB over Parquet: one connection with a limit of memory, which spills to a folder and is gone with it."""

from __future__ import annotations

import atexit
import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = '128MB'  # with what else a process holds below a gigabyte at any number of rows


@contextmanager
def querying(folder: Path, memory_limit: str = MEMORY_LIMIT) -> Iterator[DuckDBPyConnection]:
    """A connection that spills below `folder`, with one thread, so that sums and ties come out alike everywhere.

    Raises:
        ConfigError: if duckdb is not installed.
        DataError: for what DuckDB refuses inside the block, in its words.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("Curation needs duckdb: pip install 'clear-framework[curate]'.") from error
    # Programs freeze the collector at their end, to end sooner (`clear.core.programs.signals`): DuckDB's types would
    # be alive then when it looks, and it prints a page about leaks.
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.spill.') as spill:
        connection = duckdb.connect(config=dict(memory_limit=memory_limit, threads=1, temp_directory=spill,
                                                autoinstall_known_extensions=False, autoload_known_extensions=False))
        refused = ''
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute('SET enable_progress_bar = false')  # it draws one of its own after two seconds
            yield connection
        except duckdb.Error as error:
            refused = str(error)
        finally:
            connection.close()
    if refused:  # raised here, without the frames of DuckDB's error: kept to the end they would hold the connection
        raise DataError(f'{folder}: {refused}')


def tables(files: Sequence[Path]) -> str:
    """Parquet files as a relation for a query."""
    listed = ', '.join("'" + str(path).replace("'", "''") + "'" for path in files)
    return f'read_parquet([{listed}])'
