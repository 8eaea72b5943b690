_base_ = ['strategies/agem_reservoir.py']
