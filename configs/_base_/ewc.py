_base_ = ['strategies/ewc.py']
