"""Streams of a few random features or 8 x 8 images, and a config of every Avalanche strategy that is small enough."""

import copy

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset as classification_dataset

from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.strategies import build_strategy, quiet_avalanche
from clear.core.seeding import seed_everything
from clear.models import build_classifier
from clear.registry import STRATEGIES

DIM, NUM_CLASSES, SIZE = 8, 4, 24
GENERATOR = dict(shape=[DIM], latent_dim=2, hidden=8)
VIT = dict(img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=1, num_heads=2)
MEMORY = dict(mem_size=8, batch_size_mem=4)
# Every strategy of Avalanche's inventory that our streams allow, with what its constructor needs.
DOMAIN = {
    'Naive': {}, 'OnlineNaive': dict(train_passes=2), 'Cumulative': {}, 'JointTraining': {}, 'FromScratchTraining': {},
    'Replay': dict(mem_size=9), 'GDumb': dict(mem_size=9), 'GSS_greedy': dict(mem_size=10),
    'MIR': dict(**MEMORY, subsample=6), 'DER': MEMORY, 'ER_ACE': MEMORY, 'ER_AML': MEMORY,
    'FeatureReplay': MEMORY, 'SCR': dict(**MEMORY, projection_dim=5),
    'CoPE': dict(mem_size=8, p_size=5), 'AGEM': dict(patterns_per_exp=9, sample_size=6),
    'GEM': dict(patterns_per_exp=6, memory_strength=0.5), 'EWC': dict(ewc_lambda=1.0),
    'SynapticIntelligence': dict(si_lambda=1.0), 'MAS': {}, 'LwF': dict(alpha=[0.0, 1.0, 1.0], temperature=1.0),
    'LFL': dict(lambda_e=1.0), 'CWRStar': {}, 'AR1': dict(rm_sz=10, ewc_lambda=1.0),
    'PNNStrategy': dict(hidden_features_per_column=5), 'PackNet': dict(post_prune_epochs=1, prune_proportion=0.5),
    'MER': dict(**MEMORY, n_inner_steps=2), 'LaMAML': dict(max_buffer_size=8, buffer_mb_size=4),
    'LaMAMLHigher': dict(n_inner_updates=2),
    'GenerativeReplay': dict(generator=GENERATOR, generator_epochs=1),
    'ExpertGateStrategy': dict(ae_train_mb_size=8, ae_latent_dim=3, rel_thresh=-99.0),
    'LearningToPrompt': dict(vit=VIT, pool_size=4, prompt_length=2, top_k=2, use_mask=False), 'StreamingLDA': {}}
CLASS_INCREMENTAL = {
    'ICaRL': dict(memory_size=8), 'BiC': dict(mem_size=20, stage_2_epochs=2), 'IL2M': MEMORY,
    'MIR': DOMAIN['MIR'], 'Replay': DOMAIN['Replay'], 'DER': MEMORY, 'ER_ACE': MEMORY}
# They train a generator, not a classifier.
GENERATIVE = {'AETraining': dict(generator=dict(shape=[DIM], latent_dim=3)), 'VAETraining': dict(generator=GENERATOR)}


def buckets(count, classes=None, shape=(DIM,), size=SIZE):
    """Buckets of clouds around one centre for each class; `classes[i]` are those of bucket i, all by default."""
    centres = torch.randn(10, *shape, generator=torch.Generator().manual_seed(5)) * 1.5
    noise = torch.Generator().manual_seed(0)
    for i in range(count):
        own = classes[i] if classes else list(range(NUM_CLASSES))
        targets = torch.tensor([own[row % len(own)] for row in range(size)])
        yield TensorBucket(centres[targets] + torch.randn(size, *shape, generator=noise), targets)


def domain_stream(count=3, shape=(DIM,), size=SIZE):
    """All classes in every bucket, as in CLEAR."""
    train, test = (list(buckets(count, shape=shape, size=size)) for _ in range(2))
    return make_benchmark(ScenarioInfo(class_names=list('abcd'), bucket_names=list('012')[:count], protocol='iid',
                                       fingerprint='toy', train=train, test=test))


def labelled_stream(count=3):
    """Two new classes in every bucket, which has a task label of its own, as the buckets of our scenarios have."""
    pairs = [[2 * i, 2 * i + 1] for i in range(count)]
    train, test = (list(buckets(count, pairs)) for _ in range(2))
    return make_benchmark(ScenarioInfo(class_names=list('abcdefghij')[:2 * count], bucket_names=list('0123456789'),
                                       protocol='iid', fingerprint='toy', train=train, test=test))


def uneven_stream(sizes):
    """All classes in every bucket, of these sizes."""
    train = [next(iter(buckets(1, size=size))) for size in sizes]
    test = [next(iter(buckets(1))) for _ in sizes]
    return make_benchmark(ScenarioInfo(class_names=list('abcd'), bucket_names=list('0123456789')[:len(sizes)],
                                       protocol='iid', fingerprint='toy', train=train, test=test))


def class_stream(count=2, sizes=None):
    """Two new classes in every bucket; `sizes` of the training buckets, SIZE by default."""
    pairs = [[2 * i, 2 * i + 1] for i in range(count)]
    train, test = ([classification_dataset(bucket, targets=bucket.targets) for bucket in part]
                   for part in ([list(buckets(count, pairs, size=size))[i] for i, size in enumerate(sizes)]
                                if sizes else buckets(count, pairs), buckets(count, pairs)))
    return nc_benchmark(train, test, n_experiences=count, task_labels=False, shuffle=False, one_dataset_per_exp=True)


def model(kind='hidden', num_classes=NUM_CLASSES):
    """A classifier of features: 'hidden' with a hidden layer, 'noisy' with BatchNorm and dropout as well, 'linear'."""
    options = {'linear': dict(type='LinearClsHead'),
               'hidden': dict(type='StackedLinearClsHead', mid_channels=[16]),
               'noisy': dict(type='StackedLinearClsHead', mid_channels=[16], dropout_rate=0.3,
                             norm_cfg=dict(type='BN1d'))}[kind]
    return build_classifier(dict(head=dict(num_classes=num_classes, in_channels=DIM, **options)))


def config(kind, **options):
    """`cl_strategy` of a strategy: two epochs of batches of eight."""
    cfg = dict(type=kind, train_mb_size=8, eval_mb_size=8)
    if getattr(STRATEGIES.require(kind), 'needs_optimizer', True):
        cfg.update(train_epochs=2, optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    if kind == 'OnlineNaive':
        del cfg['train_epochs']
    return cfg | options


def built(kind, options=None, net=None, seed=1):
    """A strategy, built from a config and attached."""
    seed_everything(0)
    torch.manual_seed(seed)
    with quiet_avalanche():
        strategy = build_strategy(config(kind, **(options or {})), net or model(), device=torch.device('cpu'))
    strategy.attach(seed=seed)
    return strategy


def train(strategy, experiences, on_iteration=None):
    """Train through the experiences; the loss of every iteration."""
    losses = []

    def note(running):
        losses.append(running.loss.detach().reshape(()).item())
        if on_iteration is not None:
            on_iteration(running)

    strategy.on_iteration = note
    with quiet_avalanche():
        if hasattr(strategy, '_is_fitted'):
            strategy.train(list(experiences), eval_streams=[])
        else:
            for experience in experiences:
                strategy.train(experience, eval_streams=[])
    return losses


def watched(strategy, experiences):
    """Train; for each iteration the experience, batch, a copy of the model before it, and what plugins added."""
    seen, before = [], strategy._before_backward

    def note(**kwargs):
        plain = strategy.loss.detach().clone()
        net = copy.deepcopy(strategy.model)
        before(**kwargs)
        seen.append(dict(experience=strategy.clock.train_exp_counter, x=strategy.mb_x.clone(),
                         y=strategy.mb_y.clone(), net=net, penalty=(strategy.loss.detach() - plain).double().item()))

    strategy._before_backward = note
    train(strategy, experiences)
    return seen


def plugin_of(strategy, kind):
    return next(plugin for plugin in strategy.plugins if kind in {cls.__name__ for cls in type(plugin).__mro__})


def tensors_of(experience):
    """Inputs and targets of an experience."""
    rows = [experience.dataset[row] for row in range(len(experience.dataset))]
    return torch.stack([row[0] for row in rows]), torch.tensor([int(row[1]) for row in rows])
