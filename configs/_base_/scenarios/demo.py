# Handwritten digits that drift over ten time buckets: tools/dataset_converters/make_demo_clear.py data/demo
_transform = [dict(type='Grayscale'), dict(type='ToTensor'), dict(type='Normalize', mean=[0.5], std=[0.5])]
scenario = dict(type='CLEAR', data_name='demo', data_root='data/demo', evaluation_protocol='iid', seed=0, cache='ram',
                decoder='cv2', train_transform=_transform, eval_transform=_transform)
