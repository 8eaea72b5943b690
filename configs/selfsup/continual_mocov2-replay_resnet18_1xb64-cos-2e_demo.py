# python tools/train.py configs/selfsup/continual_mocov2-replay_resnet18_1xb64-cos-2e_demo.py
_base_ = ['./continual_mocov2-finetune_resnet18_1xb64-cos-2e_demo.py']

# With as many earlier images in every epoch as a tenth of the stream has, drawn without looking at classes.
stream = dict(mode='replay', replay_size=1250)
