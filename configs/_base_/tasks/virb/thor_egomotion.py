# AI2-THOR (Kolve et al. 2017, arXiv:1712.05474): which of five actions lies between two views.
# ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='MLPProbe', name='thor_egomotion', level='image', kind='structural',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ThorEgomotion', root='data/thor_action_prediction', split='train'),
              test=dict(type='ThorEgomotion', root='data/thor_action_prediction', split='val')))]
