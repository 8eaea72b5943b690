# Three quick tasks that show whether encoder, data and runner fit together.
tasks = [
    dict(type='KNN', name='knn', k=5),
    dict(type='NearestClassMean', name='nearest_mean'),
    dict(type='LinearProbe', name='linear'),
]
grid = dict(lrs=[1e-2, 1e-1], seeds=2, epochs=5, batch_size=128)
