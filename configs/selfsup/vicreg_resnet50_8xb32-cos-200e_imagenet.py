_base_ = ['../_base_/models/selfsup/vicreg_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# The views of BYOL, with either of them blurred alike in the paper; lr 0.2 per 256 images.
train_dataloader = dict(dataset=dict(transform=dict(recipe='byol')))
optim_wrapper = dict(optimizer=dict(lr=0.2, weight_decay=1e-6))
sync_bn = True
