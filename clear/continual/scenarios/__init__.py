from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.scenarios.clear import clear_benchmark

__all__ = ['ScenarioInfo', 'TensorBucket', 'clear_benchmark', 'make_benchmark']
