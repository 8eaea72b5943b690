"""What people look at before and after a run: samples, schedules, logs, confusions, the size of a model."""
