_base_ = ['strategies/reservoir.py']
