# SGD for a linear layer on frozen features: no weight decay, because the layer underfits; a recipe sets lr and schedule.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0))
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=256)
