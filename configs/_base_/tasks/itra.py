# The probes of ITRA, ProtoCLIP and CLIP_benchmark, each chosen on a fifth of the training images that is set aside
# (theirs choose on the test set; add select='test', legacy=True for that, without refit). docs/probing.md has the table.
_sgd = dict(type='LinearProbe', schedules=['epoch_cosine'], scale='none', init='normal', seeds=1, val_fraction=0.2)
tasks = [
    dict(type='KNN', name='knn', k=20, temperature=0.07),
    # ProtoCLIP clusters the test images themselves: 5 restarts of 100 iterations.
    dict(type='Clustering', name='clusters', fit_on='test', restarts=5, max_iterations=100),
    # ITRA's default; of 100 epochs the best is kept.
    dict(name='linear_itra', lrs=[0.004], weight_decays=[0.0], epochs=100, batch_size=1024, choose_epoch=True, **_sgd),
    dict(name='linear_protoclip', lrs=[0.1], weight_decays=[1e-6], epochs=100, batch_size=1024, choose_epoch=True,
         **_sgd),
    # Five random pairs of rate and decay.
    dict(name='linear_draws', draws=5, epochs=500, batch_size=10_000, **_sgd),
    # ITRA's C for sets that are not in its table; ProtoCLIP's is 0.316 for all.
    dict(type='LogisticProbe', name='logistic_itra', cs=[3.16], scale='none', max_iterations=1000),
    dict(type='LogisticProbe', name='logistic_search', cs=[0.01, 0.1, 1, 2, 4, 8, 10, 16, 64, 100, 1000], scale='none',
         max_iterations=1000, val_fraction=0.2, refit=True),
    # Radford et al. 2021 (arXiv:2103.00020), A.3: 97 penalties from 1e-6 to 1e6.
    dict(type='LogisticProbe', name='logistic_sweep', cs=dict(lowest=1e-6, highest=1e6, count=97), search='peak',
         scale='none', max_iterations=1000, val_fraction=0.2, refit=True),
    # CLIP_benchmark: AdamW on features of unit length, 10 epochs, batches of 64.
    dict(type='LinearProbe', name='linear_clip_benchmark', optimizers=['adamw'], lrs=[0.1], schedules=['cosine'],
         weight_decays=dict(lowest=1e-6, highest=1e2, count=97), search='peak', scale='l2', epochs=10, batch_size=64,
         seeds=1, val_fraction=0.2, refit=True),
]
