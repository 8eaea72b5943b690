_base_ = ['strategies/naive.py']
