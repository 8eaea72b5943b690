# python tools/train.py configs/alignment/protoclip_rn50_1xb64-cos-100e_cc3m.py
_base_ = './protoclip_rn50_8xb64-cos-400e_cc3m.py'

# The published command for one GPU: 100 episodes, a tenth of the rate.
optim_wrapper = dict(optimizer=dict(lr=5e-5))
default_hooks = dict(prototypes=dict(lit_start_epoch=99), figures=dict(interval=25),
                     checkpoint=dict(interval=25))
param_scheduler = [dict(type='TwoRateCosineLR', warmup=2000, by_epoch=True, T_max=100, image_end=98,
                        convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
