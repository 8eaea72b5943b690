_base_ = ['strategies/si.py']
