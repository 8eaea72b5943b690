_base_ = ['scenarios/clear10.py']
