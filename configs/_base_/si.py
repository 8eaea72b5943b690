_base_ = ['strategies/si_legacy.py']
