"""From `scenario` in a config to a benchmark: ours by the registry, Avalanche's classics by our adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.scenarios.avalanche_classic import CLASSICS, REFUSED, classic_arguments, classic_benchmark
from clear.core.configs.signatures import accepted_arguments
from clear.registry import SCENARIOS

if TYPE_CHECKING:
    from clear.core.types import Options


def scenario_arguments(name: str) -> set[str] | None:
    """The keys that `scenario=dict(type=name, ...)` takes; None where any may be.

    Raises:
        RegistryError: if there is no such scenario, with the nearest names.
        ConfigError: if it is one of Avalanche's that cannot be trained on here, with the reason.
    """
    if _is_classic(name):
        return classic_arguments(name)
    accepted = accepted_arguments(SCENARIOS.require(name))
    return None if accepted is None else accepted - {'work_dir'}


def build_scenario(cfg: Options, work_dir: str | Path | None = None):
    """The Avalanche benchmark of a scenario; `benchmark.info` is its `ScenarioInfo`. `cfg` is not changed.

    Args:
        work_dir: where `bad_samples.jsonl` is written; None counts without a file.

    Raises:
        ConfigError, DataError, RegistryError: as the scenario does.
    """
    place = None if work_dir is None else str(work_dir)
    if _is_classic(cfg.get('type')):
        options = {key: value for key, value in cfg.items() if key != 'type'}
        return classic_benchmark(cfg['type'], **options, work_dir=place)
    return SCENARIOS.build(cfg, default_args=dict(work_dir=place))


def _is_classic(name: object) -> bool:
    return (name in CLASSICS or name in REFUSED) and SCENARIOS.get_own(name) is None
