from clear.engine.continual_runner import ContinualRunner
from clear.engine.probe_runner import ProbeRunner

__all__ = ['ContinualRunner', 'ProbeRunner']
