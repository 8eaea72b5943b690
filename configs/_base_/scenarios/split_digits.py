# The handwritten digits of scikit-learn two classes at a time, 0 and 1 first; no download.
scenario = dict(type='SplitDigits', n_experiences=5, size=32, seed=0)
