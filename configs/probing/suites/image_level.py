# python tools/train.py configs/probing/suites/image_level.py
runner_type = 'ProbeRunner'

# The image-level tasks of ViRB (Kotar et al. 2021, arXiv:2103.14005). docs/virb.md says where each data set comes from
# and what makes its folder below data/. Every head is chosen on a tenth of the training images and tested once, with
# three seeds. options=dict(protocol='virb', lrs=[1e-4]) in an entry trains as the earlier system meant to;
# tools/dataset_converters/virb_yaml.py prints its own files of tasks as such configs.
# ViRB's encoders see the whole image as a square of 224 pixels. Put your own here, or those of its list:
# virb=dict(suite='_base_/encoders/virb/all.py', only=['SWAV_*']).
_square = dict(squash=True, resize=224, crop=224, interpolation='bilinear')
encoders = dict(
    efficientnet_lite0=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                            preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], **_square),
                            info=dict(method='supervised', pretrain_dataset='imagenet')),
    random=dict(type='TimmEncoder', arch='tf_efficientnet_lite0',
                preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], **_square), info=dict(method='random')))
_names = ['imagenet', 'imagenetv2', 'pets', 'caltech101', 'cifar100', 'sun397', 'eurosat', 'dtd', 'kinetics_action',
          'nuscenes_egomotion', 'thor_egomotion', 'thor_num_steps', 'clevr_num_objects', 'clevr_dist', 'pets_deeplab',
          'dtd_deeplab']
tasks = [dict(suite=f'_base_/tasks/virb/{name}.py') for name in _names]
