_base_ = ['scenarios/clear100.py']
