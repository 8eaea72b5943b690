"""What TensorBoard reads of a folder."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BY_THE_CLOCK = ('time', 'data_time', 'memory', 'train/time', 'train/data_time', 'val/time', 'val/data_time')


def recorded(folder):
    """Tag -> (step, value) in the order of steps, without what the clock decides.

    Files that one process begins within a second are read by a number in their names, as text: 10 before 9.
    """
    events = EventAccumulator(str(folder), size_guidance=dict(scalars=0)).Reload()
    return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in events.Tags()['scalars']
            if tag.rpartition('/')[2] not in BY_THE_CLOCK}
