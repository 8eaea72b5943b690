from clear.continual.buffers.balanced import (
    ClassBalancedBuffer,
    ClassBalancedBufferWithLogits,
    ExperienceBalancedBuffer,
    ParametricBuffer,
)
from clear.continual.buffers.biased_reservoir import BiasedReservoirSamplingBuffer
from clear.continual.buffers.checks import check_buffer_size
from clear.continual.buffers.flat import keep_rows
from clear.continual.buffers.reservoir import ReservoirSamplingBuffer

__all__ = ['BiasedReservoirSamplingBuffer', 'ClassBalancedBuffer', 'ClassBalancedBufferWithLogits',
           'ExperienceBalancedBuffer', 'ParametricBuffer', 'ReservoirSamplingBuffer', 'check_buffer_size', 'keep_rows']
