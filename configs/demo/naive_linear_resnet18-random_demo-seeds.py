# python tools/train.py configs/demo/naive_linear_resnet18-random_demo-seeds.py
_base_ = ['naive_linear_resnet18-random_demo.py']

# Five seeds side by side in one lane, each with its own order of samples and first weights; mean and spread at the end.
seeds = [0, 1, 2, 3, 4]
# At the rate of its base the first steps overshoot (losses near 40), which makes differences of the last bit large.
cl_strategy = dict(optimizer=dict(lr=0.01))
