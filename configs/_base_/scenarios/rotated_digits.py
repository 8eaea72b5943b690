# All ten handwritten digits of scikit-learn in every experience, turned by 0, 30, ... 120 degrees; no download.
scenario = dict(type='RotatedDigits', n_experiences=5, size=32, seed=0)
