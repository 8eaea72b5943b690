# python tools/train.py configs/demo/featuredistillation_lenet5_split-digits.py
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.420 0.430 0.514 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/split_digits.py', '../_base_/models/lenet5_demo.py',
          '../_base_/strategies/feature_distillation.py', '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, alpha and lr by sweep on a part of the training images
# (docs/continual_learning.md). The loss is over the classes of the experience: else each wipes out the last.
threads = 1
cl_strategy = dict(
    plugins=[dict(type='FeatureDistillationPlugin', alpha=0.01, mode='cosine')],
    train_mb_size=16, train_epochs=4, optimizer=dict(lr=0.03), scheduler=dict(step_size=3),
    loss=dict(_delete_=True, type='MaskedCrossEntropy', mask='new'))
