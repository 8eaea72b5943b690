# python tools/train.py configs/probing/suites/smoke.py
_base_ = ['../../_base_/encoders/scenes.py']
runner_type = 'ProbeRunner'

# All tasks of ViRB, and linear heads on VOC 2012 and ADE20K, on rendered scenes of 64 pixels (docs/demo_scenes.md):
#   python tools/dataset_converters/make_demo_scenes.py data/demo_scenes
# A pass of minutes: one seed, one setting, few epochs, small images. It shows that everything works, and ranks encoders
# on scenes; no number compares with a published one.
_image = ['imagenet', 'pets', 'caltech101', 'cifar100', 'sun397', 'eurosat', 'dtd', 'kinetics_action',
          'nuscenes_egomotion', 'thor_egomotion', 'thor_num_steps', 'clevr_num_objects', 'clevr_dist']
_dense = ['pets_detection', 'nyu_depth', 'nyu_walkable', 'taskonomy_depth', 'taskonomy_edges', 'thor_depth']
_linear = ['voc2012_linear', 'ade20k_linear']
_place = dict(data_root='data/demo_scenes')
# Without anything random the maps are stored once.
_pixels = dict(lrs=[1e-3], seeds=1, epochs=8, batch_size=8)
tasks = [
    *[dict(suite=f'_base_/tasks/virb/{name}.py', **_place, options=dict(seeds=1, epochs=50)) for name in _image],
    dict(suite='_base_/tasks/virb/imagenetv2.py', **_place),
    *[dict(suite=f'_base_/tasks/virb/{name}_deeplab.py', **_place, options=_pixels) for name in ('pets', 'dtd')],
    *[dict(suite=f'_base_/tasks/virb/{name}.py', **_place, options=dict(**_pixels, recipe=dict(size=(64, 64))))
      for name in _dense],
    dict(suite='_base_/tasks/virb/taskonomy_inpainting.py', **_place,
         options=dict(**_pixels, recipe=dict(size=(64, 64), hole=(18, 46)))),
    # Half the height where there are 201 classes, and where DeepLab's head takes most of the time.
    dict(suite='_base_/tasks/virb/coco_detection.py', **_place, options=dict(**_pixels, recipe=dict(size=(32, 32)))),
    dict(suite='_base_/tasks/virb/kitti_flow.py', **_place, options=dict(**_pixels, recipe=dict(size=(64, 128)))),
    dict(suite='_base_/tasks/virb/cityscapes.py', **_place,
         options=dict(lrs=[1e-3], seeds=1, epochs=4, batch_size=8, recipe=dict(size=(32, 64)))),
    dict(suite='_base_/tasks/virb/egohands.py', **_place,
         options=dict(lrs=[1e-3], seeds=1, epochs=4, batch_size=8, recipe=dict(size=(36, 64)))),
    *[dict(suite=f'_base_/tasks/virb/{name}.py', **_place, options=dict(
        settings=dict(adam=dict(optimizer='adam', lr=1e-2)), seeds=1, epochs=20, batch_size=8, inference='whole',
        recipe=dict(size=(64, 64)), test_recipe=dict(size=(64, 64)))) for name in _linear]]
threads = 1
