"""What a stage of curation offers: which tables it reads and makes, how its work is cut, and the work of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from clear.curation.manifest import Attempt, Finished, Plan, StageFolder

if TYPE_CHECKING:
    from clear.core.types import Plain

Inputs = Mapping[str, Finished]


@dataclass(frozen=True)
class Job:
    """Some shards for one worker.

    Attributes:
        plan: of the whole stage.
        shards: numbers of the shards to do, in order; those that are done are left out.
        inputs: kind -> the finished stage that made it.
        folder: of the stage.
        workers: how many jobs may run at once, anywhere: what is limited for the whole run is shared out by it.
    """

    plan: Plan
    shards: Sequence[int]
    inputs: Inputs
    folder: StageFolder
    workers: int = 1

    def writing(self, shard: int) -> AbstractContextManager[Attempt]:
        """Fill the folder of a shard, see `StageFolder.writing`."""
        return self.folder.writing(shard, {kind: finished.fingerprint for kind, finished in self.inputs.items()})


class Stage:
    """A step from tables to tables, registered in `STAGES` and built from its config in every worker.

    What it makes is a function of its config and its inputs: no time, no machine, no order of workers. Nothing in it
    holds memory that grows with the number of rows.

    Class attributes:
        READS: kinds of tables that it reads, each made by an earlier stage of the config, or given as a folder in the
            config's `inputs`.
        MAKES: the kind that it makes.
        VERSION: changes with what is written for the same config: finished folders of an earlier one are made anew.
        PACKAGES: distributions whose versions the manifest keeps, because the bytes may depend on them.
        EXECUTION: arguments that say how the work is done and change nothing of what is made.
        FORGIVES: kinds of `READS` of which single files may be lost: the stage says itself what it lacks.

    Attributes:
        overwrite: set by the driver when the stage is to be made anew: what it made outside its folder goes, too.
        inputs: what it reads, set by the driver before `finish`, and as far as it is finished before `preview`.
    """

    READS: ClassVar[tuple[str, ...]] = ()
    MAKES: ClassVar[str] = ''
    VERSION: ClassVar[int] = 1
    PACKAGES: ClassVar[tuple[str, ...]] = ('pyarrow',)
    EXECUTION: ClassVar[frozenset[str]] = frozenset()
    FORGIVES: ClassVar[frozenset[str]] = frozenset()
    overwrite: bool = False
    inputs: Inputs = {}

    @property
    def reads(self) -> tuple[str, ...]:
        """The kinds that it reads with its arguments: `READS`, unless they decide."""
        return self.READS

    def check(self) -> None:
        """Refuse what can be seen before anything runs: a file that is not there, a rule that cannot be.

        Raises:
            ConfigError, DataError: saying which.
        """

    def sources(self) -> Mapping[str, Plain]:
        """What it reads that no stage made, e.g. name -> SHA-256 of files: a change makes everything anew.

        Called once a run by the driver; the manifest holds it as part of `inputs`.
        """
        return {}

    def preview(self) -> list[str]:
        """Lines that tell a person, before anything runs, what it would read."""
        return []

    def most_workers(self) -> int | None:
        """How many may work at once, because what they share cannot be cut finer; None = as many as there are."""
        return None

    def shares(self, workers: int) -> list[str]:
        """Lines that tell what each worker gets of what is limited for the whole run, e.g. of a host's connections."""
        return []

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Cut the work into shards; called once, by the driver.

        Args:
            folder: of the stage, for what it may have to spill.
        """
        raise NotImplementedError

    def work(self, job: Job) -> Iterator[int]:
        """Do the shards of a job, and yield the number of each as it is published."""
        raise NotImplementedError

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Look at all shards together when they are done; called by the driver, which keeps the result in the manifest.

        Raises:
            DataError: if they do not fit together.
        """
        return {}

    def redo(self, finished: Finished) -> list[int]:
        """Shards that are to be made again, though the stage is finished, because its arguments ask for it.

        What they were lies in `StageFolder.former_folder` then. Called by the driver before it skips the stage.
        """
        return []

    def lacking(self, finished: Finished) -> str:
        """What a finished stage made outside its folder and is not there any more, so that `finish` is to be called
        again; empty if nothing.
        """
        return ''

    def report(self, finished: Finished) -> list[str]:
        """Lines that tell a person what came out."""
        return ['  '.join(f'{name} {count:,}' for name, count in finished.counts.items())]
