# Nearest class mean over all buckets seen (Mensink et al. 2013), for features.
cl_strategy = dict(type='NCM', train_mb_size=256, eval_mb_size=256)
