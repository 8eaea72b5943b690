# The handwritten digits of scikit-learn two classes at a time, as five tasks of classes 0 and 1; no download.
scenario = dict(type='SplitDigits', n_experiences=5, size=32, seed=0, class_ids_from_zero_in_each_exp=True,
                task_labels=True)
