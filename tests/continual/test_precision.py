"""Mixed precision: where it acts, how far it is from float32, and that plugins see true gradients."""

import pytest
import torch
from clear_trees import write_clear_tree
from many_strategies import assert_same_run, built, settings, stopped, trained
from short_runs import FEATURE_CONFIG, read_results, train, write_config
from tiny_runs import same_weights, weights, write_stream
from torch import nn

from clear.continual.samples import SampleIndex
from clear.continual.state import strategy_state
from clear.continual.training import precision
from clear.continual.training.precision import set_precision
from clear.core.errors import ConfigError
from clear.engine.continual.runner import ContinualRunner

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def runner_of(stream, name, amp, work_dir=None, **options):
    runner = ContinualRunner(settings(stream, name, **options) | dict(amp=amp), work_dir)
    runner.build()
    return runner


def seen_dtypes(runner):
    """Train; the dtypes of what the last linear layer got and gave, and of the logits."""
    layer = [module for module in runner.model.modules() if isinstance(module, nn.Linear)][-1]
    seen = set()
    layer.register_forward_hook(lambda module, inputs, output: seen.add((inputs[0].dtype, output.dtype)))
    logits = set()
    runner.model.register_forward_hook(lambda module, inputs, output: logits.add(output.dtype))
    trained(runner)
    return seen, logits


# Where


@pytest.mark.parametrize('amp, dtype', [('bf16', torch.bfloat16), ('fp16', torch.float16), (True, torch.bfloat16)])
def test_layers_run_in_half_precision_and_logits_leave_in_float32(amp, dtype, stream):
    runner = runner_of(stream, 'Naive', amp)
    seen, logits = seen_dtypes(runner)
    assert seen == {(dtype, dtype)} and logits == {torch.float32}
    assert {parameter.dtype for parameter in runner.model.parameters()} == {torch.float32}
    assert (runner.strategy.scaler is not None) == (dtype is torch.float16)
    assert runner.results().extras['amp'] == amp


def test_teachers_and_importances_are_computed_in_the_same_precision(stream):
    """Autocast stands inside the model, so copies of it and passes of plugins have it too."""
    for name, find in (('LwF', lambda plugin: plugin.lwf.prev_model), ('EWC', None)):
        runner = runner_of(stream, name, 'bf16')
        seen, _ = seen_dtypes(runner)
        assert seen == {(torch.bfloat16, torch.bfloat16)}, name
        if find is not None:
            teacher = find(next(plugin for plugin in runner.strategy.plugins if hasattr(plugin, 'lwf')))
            assert teacher.amp_dtype is torch.bfloat16


def test_the_first_iteration_does_not_keep_its_weights(stream):
    """Autocast around a whole training would cache the weights of its first forward pass."""
    runner = runner_of(stream, 'Naive', 'bf16', head='linear')
    inputs = runner.info.test[0].inputs
    trained(runner)
    fc = runner.model.head.fc
    expected = (inputs.bfloat16() @ fc.weight.bfloat16().t() + fc.bias.bfloat16()).float()
    torch.testing.assert_close(runner.model(inputs), expected, rtol=0.02, atol=0.02)
    assert not torch.equal(runner.model(inputs), inputs @ fc.weight.t() + fc.bias)


@pytest.mark.parametrize('name', ['Naive', 'Replay', 'LwF', 'DER', 'AGEM', 'EWC'])
@pytest.mark.parametrize('amp, tolerance', [('bf16', 0.03), ('fp16', 0.004)])
def test_losses_are_close_to_float32(name, amp, tolerance, stream):
    """bfloat16 keeps 8 bits (steps of 0.4 %), float16 11 bits (0.05 %); losses here are about 1."""
    exact, half = (trained(runner_of(stream, name, value)) for value in (False, amp))
    for one, other in zip(exact.record.train_log, half.record.train_log, strict=True):
        assert other['loss'] == pytest.approx(one['loss'], abs=tolerance)
        assert other['loss'] != one['loss']
    assert not same_weights(weights(exact), weights(half))


# Scaled losses


def gradients_in(runner, hook):
    """Train; copies of the gradients of every iteration, as a plugin sees them in a hook."""
    seen = []
    from avalanche.core import SupervisedPlugin

    def note(self, strategy, **kwargs):
        seen.append([parameter.grad.clone() for parameter in strategy.model.parameters()])

    watcher = type('Watcher', (SupervisedPlugin,), {hook: note}, supports_distributed=True)()
    runner.strategy.plugins.insert(0, watcher)
    trained(runner)
    return seen


def exact_gradients(runner, inputs, targets):
    """Of the cross-entropy of a linear head on a batch, by hand in float64."""
    fc = runner.model.head.fc
    inputs = inputs.double()
    slope = (inputs @ fc.weight.detach().double().t() + fc.bias.detach().double()).softmax(1)
    slope[torch.arange(len(targets)), targets] -= 1
    slope /= len(targets)
    return [slope.t() @ inputs, slope.sum(0)]


def test_plugins_see_gradients_that_are_not_scaled(stream):
    """AGEM compares them with reference gradients, and a penalty adds to them."""
    runner, expected = runner_of(stream, 'AGEM', 'fp16', head='linear'), []
    backward = runner.strategy.backward

    def note():
        expected.append(exact_gradients(runner, runner.strategy.mb_x, runner.strategy.mb_y))
        backward()

    runner.strategy.backward = note
    seen = gradients_in(runner, 'after_backward')
    assert runner.strategy.scaler.get_scale() >= 2**12 and len(seen) == len(expected) == 24
    overflows = 0
    for step, wanted in zip(seen, expected):
        overflows += all((part == 0).any() for part in step)
        for found, value in zip(step, wanted):
            here = found != 0  # what overflowed is 0 for plugins, and the step is left out
            torch.testing.assert_close(found[here].double(), value[here], rtol=0.01, atol=0.002)  # 11 bits
    assert overflows <= 3


def train_with_overflow(runner, at):
    """Train on the first bucket, in one iteration with a scale that is far too large; scale and weights after each."""
    record, forward = [], runner.strategy.forward

    def note(strategy):
        record.append((strategy.scaler.get_scale(), weights(runner)))
        if len(record) == at:
            runner.scaler.update(new_scale=2.0**10)

    def forward_at_a_scale():
        if len(record) + 1 == at:
            runner.scaler.update(new_scale=2.0**40)
        return forward()

    runner.strategy.forward = forward_at_a_scale
    runner.strategy.attach(seed=3, scaler=runner.scaler, on_iteration=note)
    runner.scaler.scale(torch.ones(()))  # makes its tensor
    runner.scaler.update(new_scale=2.0**10)  # nothing else overflows
    runner.strategy.train(runner.experiences[0], eval_streams=[])
    del runner.strategy.forward
    return record


def test_a_step_that_overflows_is_left_out_and_the_scale_halved(stream):
    runner = runner_of(stream, 'Naive', 'fp16', head='linear')
    scales, states = zip(*train_with_overflow(runner, at=3))
    assert scales == (2.0**10, 2.0**10, 2.0**39, *[2.0**10] * 5)
    moved = [not same_weights(one, other) for one, other in zip(states, states[1:])]
    assert moved == [True, False, True, True, True, True, True]
    assert all(value.isfinite().all() for value in states[-1].values())


@pytest.mark.parametrize('name', ['SynapticIntelligence', 'AGEM', 'GEM'])
def test_plugins_remember_nothing_of_an_overflow(name, stream):
    """Synaptic Intelligence sums gradients: one infinity would make every later penalty NaN."""
    runner = runner_of(stream, name, 'fp16', head='hidden')
    train_with_overflow(runner, at=3)
    runner.strategy.train(runner.experiences[1], eval_streams=[])
    assert all(value.isfinite().all() for value in weights(runner).values())
    found = repr(strategy_state(runner.strategy, SampleIndex([item.dataset for item in runner.experiences])))
    assert 'nan' not in found and 'inf' not in found


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
@pytest.mark.parametrize('name', ['AGEM', 'DER'])
def test_resumed_in_mixed_precision(name, amp, stream, tmp_path):
    whole = trained(runner_of(stream, name, amp, tmp_path / 'whole', head='noisy'))
    stopped(runner_of(stream, name, amp, tmp_path / 'parts', head='noisy'), 1, 3)
    parts = trained(runner_of(stream, name, amp, tmp_path / 'parts', head='noisy'), resume=True)
    assert_same_run(whole, parts)


def test_the_scale_survives_a_resume(stream, tmp_path):
    """Of a run in which it was halved before the stop; and at experiences' ends too."""
    def halved(folder, stops):
        resume = False
        for stop in [*stops, None]:
            runner = runner_of(stream, 'Naive', 'fp16', tmp_path / folder, head='linear')
            if not resume:
                runner.strategy.attach(seed=0, scaler=runner.scaler)
                runner.scaler.scale(torch.ones(()))  # makes its tensor
                runner.scaler.update(new_scale=2.0**9)
            if stop is None:
                trained(runner, resume)
            else:
                stopped(runner, *stop, resume)
            resume = True
        return runner

    whole, parts, later = (halved(name, stops) for name, stops in
                           (('whole', []), ('parts', [(1, 3)]), ('later', [(0, 8), (2, 1)])))
    assert whole.scaler.get_scale() == parts.scaler.get_scale() == later.scaler.get_scale() == 2**9
    assert_same_run(whole, parts)
    assert_same_run(whole, later)


# Settings


@pytest.mark.parametrize('arguments, expected', [
    (['--amp'], True), (['--no-amp', '--cfg-options', 'amp=bf16'], None), (['--cfg-options', 'amp=fp16'], 'fp16')],
    ids=['flag', 'against the config', 'config'])
def test_the_flag_beats_the_config(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
    root = write_clear_tree(tmp_path / 'data', features=8, per_class=6, num_buckets=2, images=False)
    train(write_config('config.py', FEATURE_CONFIG, root), '--work-dir', 'run', *arguments)
    assert read_results('run')['extras'].get('amp') == expected


def test_a_cpu_without_the_instructions_is_told_that_it_is_slower(monkeypatch, caplog, stream):
    model = built(stream, 'Naive').model
    for has_them in (True, False):
        monkeypatch.setattr(precision, '_cpu_has_bf16', lambda has_them=has_them: has_them)
        caplog.clear()
        set_precision(model, 'bf16', CPU)
        assert ('no bfloat16 instructions: mixed precision is slower here' in caplog.text) != has_them


@pytest.mark.parametrize('text, expected', [
    ('processor : 0\nflags : fpu avx512_bf16 sse\n', True), ('flags : fpu amx_bf16\n', True),
    ('flags : fpu avx512f\n', False), ('Features : fp asimd bf16 i8mm\n', True), ('model name : x\n', False)])
def test_instructions_are_read_from_the_system(text, expected, monkeypatch):
    monkeypatch.setattr('pathlib.Path.read_text', lambda self: text)
    assert precision._cpu_has_bf16() is expected


def test_a_system_without_that_file_has_none(monkeypatch):
    def missing(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr('pathlib.Path.read_text', missing)
    assert precision._cpu_has_bf16() is False


def test_what_cannot_be_run_in_mixed_precision_is_refused(stream):
    with pytest.raises(ConfigError, match="amp is 'half'; expected False, True, 'bf16' or 'fp16'"):
        runner_of(stream, 'Naive', 'half')
    with pytest.raises(ConfigError, match='Linear cannot run in mixed precision'):
        set_precision(nn.Linear(1, 1), 'bf16', CPU)
    assert set_precision(nn.Linear(1, 1), False, CPU) is None
