"""Our own strategies, and `build_strategy` for all: importing this registers those of `repairs` as well."""

from clear.continual.repairs import SynapticIntelligence, quiet_avalanche
from clear.continual.strategies.agem import AGEM
from clear.continual.strategies.build import build_strategy
from clear.continual.strategies.closed_form import ClosedForm, ClosedFormLearner
from clear.continual.strategies.derpp import DERpp
from clear.continual.strategies.ewc import EWC
from clear.continual.strategies.gdumb import GDumb
from clear.continual.strategies.load_best import LoadBest
from clear.continual.strategies.prototype import NCM, Prototype, PrototypePlus
from clear.continual.strategies.ranpac import RandomProjectionHead, RanPAC
from clear.continual.strategies.replay import Replay
from clear.continual.strategies.streaming_lda import StreamingLDA
from clear.continual.training import EngineMixin, SchedulePlugin

__all__ = ['AGEM', 'EWC', 'NCM', 'ClosedForm', 'ClosedFormLearner', 'DERpp', 'EngineMixin', 'GDumb', 'LoadBest',
           'Prototype', 'PrototypePlus', 'RanPAC', 'RandomProjectionHead', 'Replay', 'SchedulePlugin', 'StreamingLDA',
           'SynapticIntelligence', 'build_strategy', 'quiet_avalanche']
