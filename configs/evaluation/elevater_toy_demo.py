# python tools/train.py configs/evaluation/elevater_toy_demo.py
# Two drawn sets in ELEVATER's storage through zero-shot, few-shot, full-shot and fine-tuning, to files of predictions.
# First: python tools/dataset_converters/make_elevater_toy.py data/elevater_toy
# Then:  python tools/analysis_tools/elevater_submission.py combine work_dirs/toy/tiny/predictions/linear_probe_5
runner_type = 'ProbeRunner'

# Towers with random weights: zero-shot is at chance, and what is learnt is learnt from colours and corners.
_args = dict(embed_dim=32, vision_cfg=dict(width=64, head_width=32, layers=2, patch_size=4, image_size=16),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(tiny=dict(image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args),
                          text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args)))
_sets = {'toy-colours': dict(metric='top1', templates=['a {} square.', 'something {}.']),
         'toy-corners': dict(metric='map_11point', templates=['a light at the {}.'])}
# Small batches: the averages of BatchNorm follow a dozen images in as many steps as they need. Fine-tuning searches
# nothing, so that all is done within a minute.
_modes = {'zero_shot': dict(type='ElevaterZeroShot'),
          'linear_5': dict(type='ElevaterLinear', shots=5, batch_size=4),
          'linear_full': dict(type='ElevaterLinear', shots=-1, epoch='validation'),
          'fine_tune_5': dict(type='ElevaterFineTune', shots=5, two_rates=True, search='none', lr=0.1, l2=1e-6,
                              final_epochs=10)}
tasks = [dict(name=f'{set_name}-{mode}', set=set_name, predictions='work_dirs/toy', **options, **task,
              data={split: dict(type='ElevaterSet', root='data/elevater_toy', set=set_name, split=split)
                    for split in (('test',) if mode == 'zero_shot' else ('train', 'test'))})
         for set_name, options in _sets.items() for mode, task in _modes.items()]
threads = 1
