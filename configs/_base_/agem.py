_base_ = ['strategies/agem.py']
