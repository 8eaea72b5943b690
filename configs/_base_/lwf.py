_base_ = ['strategies/lwf.py']
