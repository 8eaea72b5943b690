"""What runs under every strategy: the mix-in, and the loaders, processes, precision and schedule that it is made of."""

from clear.continual.training.loaders import BatchIterator, IndexLoader
from clear.continual.training.mixin import EngineMixin
from clear.continual.training.parallel import check_equal_on_ranks, choose_mode
from clear.continual.training.precision import set_precision
from clear.continual.training.schedule import SchedulePlugin

__all__ = ['BatchIterator', 'EngineMixin', 'IndexLoader', 'SchedulePlugin', 'check_equal_on_ranks', 'choose_mode',
           'set_precision']
