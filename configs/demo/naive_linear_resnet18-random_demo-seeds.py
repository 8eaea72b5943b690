# python tools/train.py configs/demo/naive_linear_resnet18-random_demo-seeds.py
_base_ = ['naive_linear_resnet18-random_demo.py']

# Five seeds side by side in one lane, each with its own order of samples and first weights; mean and spread at the end.
seeds = [0, 1, 2, 3, 4]
