_base_ = ['si.py']

# As the earlier demo had it: Avalanche's own plugin (nothing on a CPU), with CLEAR's published strength.
cl_strategy = dict(type='SynapticIntelligence', si_lambda=1e-4, legacy=True)
