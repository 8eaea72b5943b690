_base_ = ['strategies/replay.py']
