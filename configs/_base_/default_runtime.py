# What a run logs, measures and keeps; every value can be overridden.
seed = 0
num_workers = 0
# Avalanche's loggers and metrics, beside the accuracy matrix that every run measures.
loggers = [dict(type='TextLogger')]
metrics = [dict(type='accuracy_metrics', epoch=True), dict(type='loss_metrics', epoch=True)]
checkpoint_config = dict(interval=1)
