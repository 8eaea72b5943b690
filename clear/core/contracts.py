"""What the engine asks of other parts, as Protocols. They stand here because some of those parts lie below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


@runtime_checkable
class PreparesModel(Protocol):
    """A strategy's plugin that needs the model to show more than logits, e.g. its features."""

    def prepare_model(self, model: nn.Module) -> object:
        """Change the strategy's model where it stands; raises ConfigError where that is not possible."""


@runtime_checkable
class Stateful(Protocol):
    """An object that says itself what of it belongs into a checkpoint: a memory, a plugin, a hook, or what these hold.

    It is built anew from the config before a resume, then given what it had returned. Modules are saved as such.
    """

    def state_dict(self) -> Mapping[str, object]:
        """Tensors, arrays, numbers, text, None, Avalanche data sets, and lists, tuples, sets and dicts of these."""

    def load_state_dict(self, state: Mapping[str, object]) -> object:
        """Take over what `state_dict` returned; its tensors are on the CPU."""


@runtime_checkable
class MeasuresMatrix(Protocol):
    """A metric of a continual run that is a function of its accuracy matrix; its numbers go into `results.json`."""

    def of_matrix(self, acc_matrix: Sequence[Sequence[float | None]]) -> Mapping[str, float | None]:
        """Name -> number, None where it needs an entry that was not measured. Called behind every experience.

        Args:
            acc_matrix: rows = trained through bucket i, columns = tested on bucket j, None where not measured (yet).
        """


@runtime_checkable
class GivesFeatures(Protocol):
    """A model of the ordinary Runner that gives features, (N, 3, H, W) -> (N, D), to be evaluated while it trains."""

    def features(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class FollowsProgress(Protocol):
    """A model that is told where the training is, before every iteration, for a schedule of its own."""

    def set_progress(self, iteration: int, max_iterations: int, iterations_per_epoch: int, is_step_start: bool
                     ) -> None: ...


@runtime_checkable
class HoldsParameters(Protocol):
    """A model that keeps parameters as they are for a while; the optimiser skips them in these steps."""

    def held_parameters(self) -> Iterable[nn.Parameter]: ...


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set that knows what it holds and draws from (seed, epoch, index): its `seed` is set, it is asked so."""

    def fingerprint(self) -> str: ...


@runtime_checkable
class ReportsBadSamples(Protocol):
    """A data set that lists what it cannot read in `bad_samples` (`BadSamples`), and in a file from `report_to` on."""

    bad_samples: object
    def report_to(self, path: Path) -> None: ...


@runtime_checkable
class NamesSampler(Protocol):
    """A class of data sets that are read in the order of the sampler that it names, unless the config names another."""

    sampler_type: str


@runtime_checkable
class LiesInShards(Protocol):
    """A data set whose samples lie one after another in a few large files, in its own order."""

    def __len__(self) -> int: ...

    def shard_counts(self) -> np.ndarray:
        """(S,) int64: samples of each file."""


@runtime_checkable
class HasLockedTowers(Protocol):
    """A model with networks that give the same for the same input in every step.

    Its forward pass takes `<name>_features`, what such a network gave, in place of the network's input.
    """

    def locked_towers(self) -> Mapping[str, nn.Module]: ...


@runtime_checkable
class JoinsTowers(Protocol):
    """An encoder of images and text that is made of a tower and perhaps a head on each side.

    `embed_dim` is the width of its images' embeddings, `text_dim` that of its texts'; None without text.
    """

    embed_dim: int
    text_dim: int | None

    def without_heads(self) -> nn.Module:
        """The same towers, whose embeddings pass no head."""


@runtime_checkable
class ReadsStored(Protocol):
    """A data set that knows what each network reads, and can give what the network made of it instead.

    `fixed_inputs` has for each name what is the same in every epoch (a list of texts, or `FixedImages`), else a
    sentence part that says why it is not; `read_stored` gets `StoredRows` of some of the names.
    """

    def fixed_inputs(self) -> Mapping[str, object]: ...

    def read_stored(self, stored: Mapping[str, object]) -> None: ...


@runtime_checkable
class SeesClusters(Protocol):
    """A hook that is shown the clusters of an episode when they were found; in the first process, the others wait.

    By source ('image', 'text', 'external'): features (E, D), and labels (E,) of up to `num_clusters` clusters. `draws`
    (E,) are indices of the training data, `episode` counts from 0.
    """

    def after_clustering(self, runner: object, features: Mapping[str, Tensor], labels: Mapping[str, Tensor],
                         draws: Tensor, num_clusters: int, episode: int) -> None: ...


@runtime_checkable
class Measures(Protocol):
    """A hook that gives numbers to `runner.add_measurements`; `measures` are their names, for `save_best`."""

    measures: Sequence[str]


@runtime_checkable
class PlansAhead(Protocol):
    """A hook with lines for the plan of a run: a short title, filled to ten columns, and text."""

    def plan(self) -> Sequence[str]: ...


@runtime_checkable
class SharesState(Stateful, Protocol):
    """A hook that has to know when another number of processes goes on, after it got the state of one of them."""

    def merge_states(self, states: list[Mapping[str, object]]) -> None: ...


@runtime_checkable
class Closes(Protocol):
    """A hook that lets go of something when training ends, however it ends."""

    def close(self) -> None: ...
