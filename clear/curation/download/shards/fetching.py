"""The loop that fetches what a shard lacks: many records at once, entered in its ledger some at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from clear.curation.download.shards.ledger import Entry, Ledger, Note
from clear.curation.download.shards.rates import Rates
from clear.curation.download.shards.verdicts import Filters
from clear.curation.download.sources import Got, Record, Source
from clear.curation.filters import KEPT

if TYPE_CHECKING:
    from clear.curation.download.client import Client

T = TypeVar('T')
HOST_DOWN = 'host_down'
_MOST_BYTES = 32 << 20  # of bodies that wait for the ledger while others are fetched


@dataclass(frozen=True)
class Passes:
    """How often a shard's records are gone through: what failed for the time being is tried again behind the others.

    Attributes:
        most: passes in all.
        wait_s: before the second; doubled before each that follows.
        host_down_s: at least so long if a host is left alone for a while.
    """

    most: int = 2
    wait_s: float = 5.0
    host_down_s: float = 0.0

    def pause_s(self, number: int, outcomes: Collection[str]) -> float:
        """Before a pass.

        Args:
            number: 1 is the second.
            outcomes: of the records that it is for.
        """
        return max(self.wait_s * 2 ** (number - 1), self.host_down_s if HOST_DOWN in outcomes else 0.0)


class Desk:
    """Looks at what was fetched and enters it, on a thread of its own, in batches; whoever brings more waits.

    Args:
        ledger: of the shard.
        filters: see `Filters.of_body`.
        sync_every: at most so many records are lost when the process is killed, besides those under way.
        rates: told of every record.
    """

    def __init__(self, ledger: Ledger, filters: Filters, sync_every: int, rates: Rates):
        self.ledger, self.filters, self.rates = ledger, filters, rates
        self._batch = max(sync_every // 2, 1)  # one is written while the next comes in
        self._waiting: list[tuple[int, Got]] = []
        self._bytes = 0
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, 'ledger')

    async def put(self, row: int, got: Got) -> None:
        """Take a record that is done.

        Raises:
            WriteError: if the ledger cannot be written.
        """
        self._waiting.append((row, got))
        self._bytes += len(got.body)
        if self._is_full():
            async with self._lock:
                if self._is_full():
                    await self.enter()

    async def enter(self) -> None:
        """Enter what is there."""
        batch, self._waiting, self._bytes = self._waiting, [], 0
        if batch:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._enter, batch)

    def close(self) -> None:
        self._thread.shutdown()

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._batch or self._bytes >= _MOST_BYTES

    def _enter(self, batch: Sequence[tuple[int, Got]]) -> None:
        notes = [self._note(row, got) for row, got in batch]
        self.ledger.add(notes)
        for note in notes:
            self.rates.add(note.entry.outcome, len(note.body))

    def _note(self, row: int, got: Got) -> Note:
        told: dict[str, str | int] = dict(attempts=got.attempts, at=int(time.time()))
        if got.detail:
            told['detail'] = got.detail
        if got.url:
            told['url'] = got.url
        if got.outcome != KEPT:
            return Note(Entry(row, got.outcome), b'', told)
        verdict = self.filters.of_body(got.body)
        if verdict.why:
            told['detail'] = verdict.why
        entry = Entry(row, verdict.outcome, width=verdict.width, height=verdict.height, format=verdict.format,
                      sha256=verdict.sha256)
        return Note(entry, got.body if verdict.outcome == KEPT else b'', told)


async def fetch(rows: Sequence[int], record: Callable[[int], Record], source: Source, client: Client | None,
                desk: Desk, at_once: int, passes: Passes) -> None:
    """Fetch rows until each is done, or has failed as often as `passes` allow.

    Args:
        record: row -> what the source needs of it.
        client: None for a source that needs none.
        at_once: records under way.
    """
    for number in range(passes.most):
        if number:
            await asyncio.sleep(passes.pause_s(number, {desk.ledger.entries[row].outcome for row in rows}))
            desk.rates.again(len(rows))
        try:
            await _one_pass(iter(rows), record, source, client, desk, min(at_once, len(rows)))
        finally:  # what is here already is kept, also when the run is stopped
            await desk.enter()
        rows = [row for row in rows if not desk.ledger.is_final(row)]
        if not rows:
            return


async def _one_pass(rows: Iterator[int], record: Callable[[int], Record], source: Source, client: Client | None,
                    desk: Desk, at_once: int) -> None:
    async def work() -> None:
        for row in rows:
            await desk.put(row, await source.get(record(row), client))

    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_apart(made: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a coroutine in an event loop on a thread of its own.

    A signal's exception is raised in the main thread, where it would land in whichever task runs at that moment, and be
    taken for that task's own. Here it ends the waiting, and the coroutine is cancelled in order.
    """
    loop, ended = asyncio.new_event_loop(), threading.Event()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        tasks.append(loop.create_task(made()))
        tasks[0].add_done_callback(lambda _: ended.set())

    thread = threading.Thread(target=loop.run_forever, name='fetching', daemon=True)
    thread.start()
    loop.call_soon_threadsafe(start)
    try:
        ended.wait()
    except BaseException:
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        ended.wait()
        raise
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return tasks[0].result()
