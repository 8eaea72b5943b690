#!/usr/bin/env bash
# TensorBoard 2.21.0, event files that one process begins within the same second (e.g. eleven short runs, or seeds, that
# log into one folder).
# Expected: a reader of the folder gives the events of a tag in the order in which they were written.
# Seen: the files are told apart by a counter at the end of their names, and read in the order of the names as text: the
# eleventh file (10) comes before the third (2), so a tag's steps run 0, 1, 10, 2, 3 ...; "the last event" is another one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorboard==2.21.0 numpy==2.4.6 'setuptools<81'
"$folder/env/bin/python" -W ignore - "$folder/events" <<'EOF'
import sys
import time
from unittest import mock

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

now = int(time.time())
for step in range(11):
    with mock.patch('time.time', return_value=now):  # all within one second
        writer = EventFileWriter(sys.argv[1])
    value = Summary(value=[Summary.Value(tag='loss', simple_value=float(step))])
    writer.add_event(Event(wall_time=now + step / 100, step=step, summary=value))
    writer.close()
events = EventAccumulator(sys.argv[1])
events.Reload()
steps = [event.step for event in events.Scalars('loss')]
print('steps as read:', steps)
assert sorted(steps) == list(range(11)), 'changed: events are lost'
assert steps == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9], 'changed: the order of files'
EOF
