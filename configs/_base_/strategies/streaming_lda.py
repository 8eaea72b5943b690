# Streaming linear discriminant analysis (Hayes and Kanan 2020, arXiv:1909.01520), for features.
cl_strategy = dict(type='StreamingLDA', shrinkage_param=1e-4, train_mb_size=256, eval_mb_size=256)
