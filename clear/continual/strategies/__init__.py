from clear.continual.strategies.build import build_strategy
from clear.continual.strategies.engine import EngineMixin
from clear.continual.strategies.repairs import SynapticIntelligence, quiet_avalanche
from clear.continual.strategies.schedule import SchedulePlugin

__all__ = ['EngineMixin', 'SchedulePlugin', 'SynapticIntelligence', 'build_strategy', 'quiet_avalanche']
