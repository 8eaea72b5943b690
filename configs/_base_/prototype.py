_base_ = ['strategies/prototype.py']
