# Ridge regression on random projections (McDonnell et al. 2023, arXiv:2307.02251), for features; needs a
# RandomProjectionHead. The ridge is chosen on a fifth of each bucket.
cl_strategy = dict(type='RanPAC', ridge=None, train_mb_size=256, eval_mb_size=256)
