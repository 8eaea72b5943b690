# python tools/train.py configs/probing/suites/exemplar.py
_base_ = ['./image_level.py']

# One task of each kind, of whole images and of pixels, semantic and structural, with both optimisers and three learning
# rates, as ViRB compares settings on them. The encoders are those of image_level.py.
_grid = dict(lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam', 'sgd'])
tasks = [dict(suite=f'_base_/tasks/virb/{name}.py', options=_grid) for name in ('imagenet', 'clevr_num_objects')]
tasks += [dict(suite=f'_base_/tasks/virb/{name}.py', options=dict(test_batch_size=2, **_grid))
          for name in ('cityscapes', 'thor_depth')]
