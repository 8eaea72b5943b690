# The 33 ResNet-50 of ViRB's list (Kotar et al. 2021, arXiv:2103.14005): 24 that its authors trained, six and a SimCLR by
# others, torchvision's supervised one, and random weights. Names are those of its `experiment_lists/all.yaml`. Files go
# below weights/virb/ under the names that they are published by, or converted by its scripts; nothing is downloaded.
# A few of them: encoders = dict(virb=dict(suite='_base_/encoders/virb/all.py', only=['SWAV_*', 'Random'])).
_resnet50 = dict(type='TorchvisionEncoder', arch='resnet50',
                 preprocess=dict(squash=True, resize=224, crop=224, interpolation='bilinear'))
_own = 'https://prior-model-weights.s3.us-east-2.amazonaws.com/contrastive_encoders/'
# Name, which its file has too, method, images, epochs.
_trained_by_them = [
    ('SWAV_50', 'swav', 'imagenet', 50),
    ('SWAV_100', 'swav', 'imagenet', 100),
    ('SWAVHalfImagenet', 'swav', 'imagenet_half', 200),
    ('SWAVHalfImagenet_100', 'swav', 'imagenet_half', 100),
    ('SWAVQuarterImagenet', 'swav', 'imagenet_quarter', 200),
    ('SWAVUnbalancedImagenet', 'swav', 'imagenet_half_linear', 200),  # classes of linearly falling size
    ('SWAVUnbalancedImagenet_100', 'swav', 'imagenet_half_linear', 100),
    ('SWAVLogImagenet', 'swav', 'imagenet_quarter_log', 200),  # of logarithmically falling size
    ('SWAVPlaces', 'swav', 'places', 200),
    ('SWAVKinetics', 'swav', 'kinetics', 200),
    ('SWAVTaskonomy', 'swav', 'taskonomy', 200),
    ('SWAVCombination', 'swav', 'combination', 200),  # a quarter of each of the four
    ('MoCov2_50', 'moco_v2', 'imagenet', 50),
    ('MoCov2_100', 'moco_v2', 'imagenet', 100),
    ('MoCov2HalfImagenet', 'moco_v2', 'imagenet_half', 200),  # 'MoCov2HalfImagenet_200.pt' in their list
    ('MoCov2HalfImagenet_100', 'moco_v2', 'imagenet_half', 100),
    ('MoCov2QuarterImagenet', 'moco_v2', 'imagenet_quarter', 200),
    ('MoCov2UnbalancedImagenet', 'moco_v2', 'imagenet_half_linear', 200),
    ('MoCov2UnbalancedImagenet_100', 'moco_v2', 'imagenet_half_linear', 100),
    ('MoCov2LogImagenet', 'moco_v2', 'imagenet_quarter_log', 200),
    ('MoCov2Places', 'moco_v2', 'places', 200),
    ('MoCov2Kinetics', 'moco_v2', 'kinetics', 200),
    ('MoCov2Taskonomy', 'moco_v2', 'taskonomy', 200),
    ('MoCov2Combination', 'moco_v2', 'combination', 200),
]
# Name, method, epochs, place and name of the file.
_others = [
    ('SWAV_200', 'swav', 200, 'https://dl.fbaipublicfiles.com/deepcluster/', 'swav_200ep_pretrain.pth.tar'),
    ('SWAV_800', 'swav', 800, 'https://dl.fbaipublicfiles.com/deepcluster/', 'swav_800ep_pretrain.pth.tar'),
    ('MoCov1_200', 'moco_v1', 200, 'https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v1_200ep/',
     'moco_v1_200ep_pretrain.pth.tar'),
    ('MoCov2_200', 'moco_v2', 200, 'https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_200ep/',
     'moco_v2_200ep_pretrain.pth.tar'),
    ('MoCov2_800', 'moco_v2', 800, 'https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/',
     'moco_v2_800ep_pretrain.pth.tar'),
    ('PIRL_800', 'pirl', 800, 'https://dl.fbaipublicfiles.com/vissl/model_zoo/'
     'pirl_jigsaw_4node_pirl_jigsaw_4node_resnet_22_07_20.34377f59/', 'model_final_checkpoint_phase799.torch'),
    # Their list does not say whose SimCLR it is; this is VISSL's of as many epochs.
    ('SimCLR_1000', 'simclr', 1000, 'https://dl.fbaipublicfiles.com/vissl/model_zoo/'
     'simclr_rn50_1000ep_simclr_8node_resnet_16_07_20.afe428c7/', 'model_final_checkpoint_phase999.torch'),
    ('Supervised', 'supervised', 90, 'https://download.pytorch.org/models/', 'resnet50-0676ba61.pth'),
]
encoders = dict(
    {name: dict(weights=dict(path=f'weights/virb/{name}.pt', origin=f'{_own}{name}.pt'),
                info=dict(method=method, pretrain_dataset=images, epochs=epochs), **_resnet50)
     for name, method, images, epochs in _trained_by_them},
    **{name: dict(weights=dict(path=f'weights/virb/{file}', origin=f'{place}{file}'),
                  info=dict(method=method, pretrain_dataset='imagenet', epochs=epochs), **_resnet50)
       for name, method, epochs, place, file in _others},
    Random=dict(info=dict(method='random'), **_resnet50))
