"""Is a memory large enough for what it is asked to hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clear.core.errors import ConfigError
from clear.core.logs import logger

if TYPE_CHECKING:
    from avalanche.training.storage_policy import ExemplarsBuffer


def check_buffer_size(buffer: ExemplarsBuffer, num_classes: int | None, where: str = 'the memory') -> None:
    """Refuse a class-balanced memory with less than one place per class; warn about any other of that size.

    Args:
        buffer: an Avalanche `ExemplarsBuffer`.
        num_classes: of the whole stream; None checks nothing.
        where: what to call the memory in a message.

    Raises:
        ConfigError: if some class could never have a sample in a memory that promises one to each.
    """
    size = buffer.max_size
    if num_classes is None or size >= num_classes:
        return
    if is_class_balanced(buffer):
        raise ConfigError(f'{where} ({type(buffer).__name__}) holds {size} samples in equal shares per class, but '
                          f'there are {num_classes} classes: some would have none. Use at least {num_classes}.')
    logger.warning('%s (%s) holds %d samples of %d classes: some classes will not be in it.', where,
                   type(buffer).__name__, size, num_classes)


def is_class_balanced(buffer: ExemplarsBuffer) -> bool:
    """True for memories that divide their places over the classes."""
    from avalanche.training.storage_policy import ClassBalancedBuffer, ParametricBuffer
    from avalanche.training.supervised.der import ClassBalancedBufferWithLogits

    if isinstance(buffer, ParametricBuffer):
        return buffer.groupby == 'class'
    return isinstance(buffer, (ClassBalancedBuffer, ClassBalancedBufferWithLogits))
