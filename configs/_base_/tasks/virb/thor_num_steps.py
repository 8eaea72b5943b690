# AI2-THOR: how many steps an agent is away from an object. ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='thor_num_steps', level='image', kind='structural',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ThorNumSteps', root='data/thor_num_steps', split='train'),
              test=dict(type='ThorNumSteps', root='data/thor_num_steps', split='val')))]
