import json
import signal
from pathlib import Path

import pytest
import torch
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.core.errors import CheckpointError, DataError, Interrupted, TrainingError
from clear.core.files import save_tensors
from clear.engine.continual import runner as module
from clear.engine.continual.runner import ContinualRunner
from clear.models import build_classifier

DIM, CLASSES, BUCKETS = 8, 3, 3
MODEL = dict(head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=DIM))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'features', features=DIM, per_class=10, images=False)


def make_config(root, **changes):
    strategy = dict(type='Naive', train_mb_size=8, eval_mb_size=4, train_epochs=2,
                    optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    strategy.update(changes.pop('cl_strategy', {}))
    scenario = dict(type='CLEAR', data_root=str(root), seed=0, feature_type=FEATURE_TYPE)
    return dict(scenario=scenario, model=MODEL, cl_strategy=strategy, loggers=[], metrics=[],
                checkpoint_config=dict(interval=1), **changes)


def run(root, work_dir=None, resume=None, **changes):
    runner = ContinualRunner(make_config(root, **changes), work_dir)
    runner.build()
    runner.results_of_run = runner.train(resume)
    return runner


def read_lists(root, bucket, part):
    """Features and targets of a list, read without the library."""
    folder = Path(root) / 'training_folder'
    rows, targets = torch.load(folder / 'features' / FEATURE_TYPE / bucket / 'all.pth', weights_only=True)
    chosen = json.loads((folder / 'testset_ratio_0.3' / 'split_0' / bucket / f'{part}_indices.json').read_text())
    return rows[chosen], torch.tensor(targets)[chosen]


# The matrix

def test_matrix_is_what_the_weights_measure_by_hand(root, tmp_path):
    """Row i by the weights of exp_i.pth, column j on the test list of bucket j."""
    runner = run(root, tmp_path)
    for i in range(BUCKETS):
        state = torch.load(tmp_path / f'exp_{i}.pth', weights_only=True)['state_dict']
        for j in range(BUCKETS):
            inputs, targets = read_lists(root, str(j + 1), 'test')
            logits = inputs @ state['head.fc.weight'].T + state['head.fc.bias']
            correct = sum(int(row.argmax()) == int(target) for row, target in zip(logits, targets))
            assert runner.record.acc_matrix[i][j] == correct / len(targets)
    rows = {tuple(row) for row in runner.record.acc_matrix}
    assert len(rows) > 1, 'all rows are equal: the test would not see an exchange'


def test_training_is_plain_sgd_over_the_buckets(root):
    """The same weights from a loop over the lists, in the order that the strategy drew."""
    batches = []
    runner = ContinualRunner(make_config(root))
    runner.build()
    first = {name: value.clone() for name, value in runner.model.state_dict().items()}
    before = type(runner.strategy)._before_forward

    def note(self, **kwargs):
        batches.append((self.clock.train_exp_counter, self.mb_x.clone(), self.mb_y.clone()))
        before(self, **kwargs)

    type(runner.strategy)._before_forward = note
    runner.train()

    model = build_classifier(MODEL)
    model.load_state_dict(first)
    optimizer, experience = None, -1
    for now, inputs, targets in batches:
        if now != experience:  # optimizer_policy='reset'
            optimizer, experience = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), now
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(runner.model.state_dict()[name], value, rtol=0, atol=1e-6)
    # Every epoch of a bucket sees each row of its training list once.
    for bucket in range(BUCKETS):
        seen = torch.cat([inputs for now, inputs, _ in batches if now == bucket])
        expected, _ = read_lists(root, str(bucket + 1), 'train')
        assert len(seen) == 2 * len(expected)
        for epoch in seen.split(len(expected)):
            assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, expected.tolist()))


def test_joint_training_has_one_row_for_all(root):
    runner = run(root, cl_strategy=dict(type='JointTraining'))
    assert runner.record.acc_matrix == [runner.record.acc_matrix[0]] * BUCKETS
    assert None not in runner.record.acc_matrix[0]
    assert len(runner.record.train_log) == 1 and runner.results_of_run.joint


def test_streaming_marks_what_measures_training_data(root):
    config = make_config(root)
    config['scenario'].update(evaluation_protocol='streaming', seed=None)
    runner = ContinualRunner(config)
    runner.build()
    results = runner.train()
    assert results.protocol == 'clear/streaming/v1'
    assert results.overlap_mask == [[j <= i for j in range(BUCKETS)] for i in range(BUCKETS)]
    assert results.metrics['in_domain'] is None and results.metrics['train_overlap']['in_domain'] > 0.5
    assert results.metrics['next_domain'] > 0.5


# What is said before training

@pytest.mark.parametrize('amp, words', [(False, 'float32'), ('bf16', 'mixed precision (bfloat16)'),
                                        (True, 'mixed precision (bfloat16)')])
def test_the_start_says_the_precision(root, amp, words):
    runner = ContinualRunner(make_config(root, amp=amp, device='cpu'))
    runner.build()
    line, = [line for line in runner.describe().splitlines() if line.startswith('training')]
    assert line.endswith(f'1 process(es) on cpu  {words}')


@pytest.mark.parametrize('count, words', [
    (3, None), (4, 'cl_strategy.alpha has 4 values for 3 experiences; the last one is not used.'),
    (5, 'cl_strategy.alpha has 5 values for 3 experiences; the last 2 are not used.')])
def test_unused_values_of_alpha_are_named(root, caplog, count, words):
    ContinualRunner(make_config(root, cl_strategy=dict(type='LwF', alpha=[1.0] * count, temperature=2.0))).build()
    assert [line for line in caplog.messages if 'alpha' in line] == ([words] if words else [])


# Seeds

def test_seed_decides_everything(root):
    runs = [run(root, seed=seed) for seed in (3, 3, 4)]
    weights = [each.model.state_dict()['head.fc.weight'] for each in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert runs[0].results_of_run.acc_matrix == runs[1].results_of_run.acc_matrix


def test_random_numbers_drawn_before_do_not_matter(root):
    first = run(root).model.state_dict()['head.fc.weight']
    torch.rand(1000)
    assert torch.equal(run(root).model.state_dict()['head.fc.weight'], first)


# Weights

def test_load_from_freezes_nothing_and_frozen_does(root, tmp_path):
    weights = {'head.fc.weight': torch.full((CLASSES, DIM), 0.5), 'head.fc.bias': torch.zeros(CLASSES)}
    save_tensors(tmp_path / 'weights.pth', weights)
    loaded = ContinualRunner(make_config(root, load_from=str(tmp_path / 'weights.pth')))
    loaded.build()
    assert torch.equal(loaded.model.head.fc.weight, weights['head.fc.weight'])
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    loaded.train()
    assert not torch.equal(loaded.model.head.fc.weight, weights['head.fc.weight'])

    frozen = run(root, load_from=str(tmp_path / 'weights.pth'), frozen=['head.fc.weight'])
    assert torch.equal(frozen.model.head.fc.weight, weights['head.fc.weight'])
    assert not torch.equal(frozen.model.head.fc.bias, weights['head.fc.bias'])


def test_checkpoint_of_a_run_is_a_start_for_another(root, tmp_path):
    first = run(root, tmp_path / 'first')
    second = ContinualRunner(make_config(root, load_from=str(tmp_path / 'first' / 'latest.pth'), seed=9))
    second.build()
    assert torch.equal(second.model.head.fc.weight, first.model.head.fc.weight)


# Saving and resuming

def test_results_are_written_after_every_experience(root, tmp_path, monkeypatch):
    written = []
    original = module.write_results

    def note(path, results):
        original(path, results)
        written.append([row[0] is not None for row in json.loads(Path(path).read_text())['acc_matrix']])

    monkeypatch.setattr(module, 'write_results', note)
    run(root, tmp_path)
    assert written[:BUCKETS] == [[True, False, False], [True, True, False], [True, True, True]]


def test_without_a_folder_nothing_is_written(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = make_config(root)
    changes['loggers'] = [dict(type='TextLogger'), dict(type='CSVLogger')]
    runner = ContinualRunner(changes)
    runner.build()
    runner.train()
    assert not list(tmp_path.iterdir())


STRATEGIES = {
    'Naive': {}, 'Cumulative': {}, 'Replay': dict(mem_size=9), 'GDumb': dict(mem_size=9),
    'EWC': dict(ewc_lambda=1.0), 'LwF': dict(alpha=[0.0, 1.0, 2.0], temperature=2.0),
    'AGEM': dict(patterns_per_exp=6, sample_size=6), 'SynapticIntelligence': dict(si_lambda=1.0),
}


@pytest.mark.parametrize('name', STRATEGIES)
@pytest.mark.parametrize('policy', ['reset', 'continue'])
def test_resumed_run_is_the_uninterrupted_one(root, tmp_path, name, policy):
    strategy = dict(type=name, optimizer_policy=policy, scheduler=dict(type='StepLR', step_size=1, gamma=0.5),
                    scheduler_policy=policy, **STRATEGIES[name])
    whole = run(root, tmp_path / 'whole', cl_strategy=strategy)
    resumed = run(root, tmp_path / 'resumed', resume=str(tmp_path / 'whole' / 'exp_0.pth'), cl_strategy=strategy)
    assert resumed.record.acc_matrix == whole.record.acc_matrix and resumed.record.train_log == whole.record.train_log
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_resume_of_a_finished_run_trains_nothing(root, tmp_path):
    run(root, tmp_path)
    before = (tmp_path / 'latest.pth').stat().st_mtime_ns
    again = run(root, tmp_path, resume=True)
    assert (tmp_path / 'latest.pth').stat().st_mtime_ns == before
    assert again.progress.total == again.progress.done


@pytest.mark.parametrize('changes, words', [
    (dict(cl_strategy=dict(type='Replay', mem_size=3)), 'written by Naive'),
    (dict(cl_strategy=dict(train_epochs=5)), r'cl_strategy.train_epochs: 2 -> 5'),
    (dict(seed=1), 'seed: 0 -> 1'),
])
def test_resume_with_another_config_is_refused(root, tmp_path, changes, words):
    run(root, tmp_path)
    with pytest.raises(CheckpointError, match=words):
        run(root, tmp_path, resume=True, **changes)


def test_resume_may_change_how_it_runs_but_not_what(root, tmp_path):
    run(root, tmp_path)
    run(root, tmp_path, resume=True, threads=1, num_workers=1, device='cpu', name='other')


# Stopping

def test_sigterm_stops_between_two_iterations_and_keeps_what_is_finished(root, tmp_path):
    runner = ContinualRunner(make_config(root), tmp_path)
    runner.build()
    original = runner._on_iteration

    def send(strategy):
        original(strategy)
        if strategy.clock.train_exp_counter == 1:
            signal.raise_signal(signal.SIGTERM)

    runner._on_iteration = send
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match='continue with --resume'):
        runner.train()
    assert signal.getsignal(signal.SIGTERM) is before
    assert [None in row for row in json.loads((tmp_path / 'results.json').read_text())['acc_matrix']] == [
        False, True, True]
    resumed = run(root, tmp_path, resume=True)
    whole = run(root, tmp_path / 'whole')
    assert torch.equal(resumed.model.head.fc.weight, whole.model.head.fc.weight)


def test_resume_says_where_it_goes_on(root, tmp_path, caplog):
    """21 rows in batches of 8: the second of three iterations of the second epoch."""
    runner = ContinualRunner(make_config(root), tmp_path)
    runner.build()
    original = runner._on_iteration

    def stop(strategy):
        original(strategy)
        if (strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations) == (1, 5):
            strategy.request_stop()

    runner._on_iteration = stop
    with pytest.raises(Interrupted):
        runner.train()
    alone = tmp_path / 'alone' / 'iteration.pth'
    alone.parent.mkdir()
    alone.write_bytes((tmp_path / 'iteration.pth').read_bytes())
    with pytest.raises(CheckpointError, match=r'continues behind 1 finished .* latest.pth is missing'):
        run(root, alone.parent, resume=True)
    with caplog.at_level('INFO', logger='clear'):
        run(root, tmp_path, resume=True)
        run(root, tmp_path, resume=True)
    first, second = [line for line in caplog.messages if line.startswith('resumed from')]
    assert first == f'resumed from {tmp_path}/iteration.pth: 1 of 3 experiences are finished; going on in ' \
                    'experience 2, epoch 2, after iteration 5'
    assert second == f'resumed from {tmp_path}/latest.pth: 3 of 3 experiences are finished'


def test_loss_that_is_not_finite_stops_the_run(root, tmp_path):
    with pytest.raises(TrainingError, match='smaller learning rate'):
        run(root, tmp_path, cl_strategy=dict(optimizer=dict(type='SGD', lr=1e38)))
    assert not (tmp_path / 'latest.pth').exists()


# Testing

def test_test_gives_the_rows_of_the_matrix(root, tmp_path):
    trained = run(root, tmp_path)
    tester = ContinualRunner(make_config(root))
    tester.build()
    for experience in range(BUCKETS):
        assert tester.test(tmp_path / f'exp_{experience}.pth') == trained.record.acc_matrix[experience]


def test_avalanche_scenarios_download_nothing_unasked(root, tmp_path):
    config = make_config(root)
    config['scenario'] = dict(type='SplitMNIST', n_experiences=5, data_root=str(tmp_path))
    with pytest.raises(DataError, match='data of SplitMNIST are not.*or scenario.download=True'):
        ContinualRunner(config).build()
