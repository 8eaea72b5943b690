# Class means of all buckets seen as weights, for features; shot is the few-shot size, if there is one.
cl_strategy = dict(type='PrototypePlus', shot=None, train_mb_size=256, eval_mb_size=256)
