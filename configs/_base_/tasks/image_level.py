# Every task on one embedding per image. Settings are ours unless a source is named.
tasks = [
    # Wu et al. 2018 (arXiv:1805.01978) vote; k and temperature of DINO's evaluation (arXiv:2104.14294).
    dict(type='KNN', name='knn', k=20, temperature=0.07),
    dict(type='NearestClassMean', name='nearest_mean'),
    dict(type='LinearProbe', name='linear'),
    dict(type='LogisticProbe', name='logistic', cs=[1e-3, 1e-2, 1e-1, 1.0, 10.0]),
    dict(type='FewShotProbe', name='5_shot', shots=5, seeds=5),
    dict(type='Clustering', name='clusters'),
]
# The linear probe's grid, trained in one pass: 4 x 2 x 2 x 2 settings, 3 seeds each.
grid = dict(lrs=[1e-3, 1e-2, 1e-1, 1.0], weight_decays=[0.0, 1e-4], optimizers=['sgd', 'adam'],
            schedules=['constant', 'cosine'], seeds=3, epochs=30, batch_size=256)
