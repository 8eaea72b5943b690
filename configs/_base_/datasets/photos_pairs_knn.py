_base_ = ['./photos_pairs.py']

# For losses that fix no common axes: neighbours among the training photographs, in place of text.
custom_hooks = [dict(
    type='TaskHook', at_start=True, interval=5, tasks=[dict(type='KNN', name='knn', k=20)],
    data=dict(train=dict(type='ImageFolder', root='data/photos/train'),
              test=dict(type='ImageFolder', root='data/photos/test')))]
