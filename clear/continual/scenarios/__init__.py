from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.scenarios.build import build_scenario, scenario_arguments
from clear.continual.scenarios.clear import clear_benchmark
from clear.continual.scenarios.digits import rotated_digits, split_digits_by_class
from clear.continual.scenarios.folder_by_class import folder_by_class

__all__ = ['ScenarioInfo', 'TensorBucket', 'build_scenario', 'clear_benchmark', 'folder_by_class', 'make_benchmark',
           'rotated_digits', 'scenario_arguments', 'split_digits_by_class']
