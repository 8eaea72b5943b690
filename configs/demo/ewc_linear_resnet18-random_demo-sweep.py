# python tools/train.py configs/demo/ewc_linear_resnet18-random_demo-sweep.py
_base_ = ['naive_linear_resnet18-random_demo.py']

# Nine choices of two values in one lane, all on one order of samples; a table and a figure at the end.
# Values are ours, around those that the demo's other recipes have; none of them is tuned.
cl_strategy = dict(type='EWC', ewc_lambda=1.0)
sweep = {'cl_strategy.optimizer.lr': [0.03, 0.1, 0.3], 'cl_strategy.ewc_lambda': [0.1, 1.0, 10.0]}
