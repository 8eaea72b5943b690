# Six layouts of rendered scenes of another seed than those that are probed, 1,000 images of each, without labels:
#   python tools/dataset_converters/make_demo_scenes.py data/demo_scenes_more --seed 1 --train 1000 --test 20 \
#       --only imagenet caltech-101 SUN397 dtd thor_num_steps CLEVR
# kNN is scored on the classes of data/demo_scenes/imagenet.
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='FolderImages', data_root='data/demo_scenes_more', image_size=64, cache='ram'))
custom_hooks = [dict(
    type='OnlineKNNHook', at_start=True, interval=10,
    train=dict(data_root='data/demo_scenes/imagenet/train', image_size=64),
    test=dict(data_root='data/demo_scenes/imagenet/val', image_size=64))]
