"""The best epoch of an experience is restored, by samples that were held out."""

import pytest
import torch
from own_strategies import best, places, plugin, run, spy
from tiny_runs import built, config, same_weights, weights, write_stream

from clear.core.errors import ConfigError


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.mark.parametrize('metric', ['accuracy', 'loss'])
@pytest.mark.parametrize('split', ['val', 'train'])
def test_the_best_epoch_is_restored_before_importances_are_computed(metric, split, stream):
    # A learning rate that makes later epochs worse, on and off.
    cfg = best(stream, strategy='EWC', epochs=5, metric=metric, split=split, val_ratio=0.25)
    cfg['cl_strategy']['optimizer']['lr'] = 3.0
    cfg['cl_strategy']['scheduler'] = None
    runner, epochs, after = built(cfg), [], []
    loader = plugin(runner, 'LoadBest')
    inner = loader.after_training_epoch

    def after_training_epoch(strategy, **kwargs):
        state = {name: value.detach().clone() for name, value in strategy.model.state_dict().items()}
        model = strategy.model.eval()
        if split == 'val':
            held = [loader.validation[row] for row in range(len(loader.validation))]
            logits, labels = model(torch.stack([item[0] for item in held])), torch.tensor([item[1] for item in held])
            value = (float((logits.argmax(1) == labels).float().mean()) if metric == 'accuracy'
                     else -float(torch.nn.functional.cross_entropy(logits, labels).detach()))
        else:
            value = strategy.epoch_accuracy if metric == 'accuracy' else -strategy.epoch_loss
        model.train()
        epochs.append((value, state))
        inner(strategy, **kwargs)

    loader.after_training_epoch = after_training_epoch
    ewc = plugin(runner, 'EWCPlugin')
    spy(runner, '_after_training_exp', lambda strategy: after.append(weights(runner)))
    run(runner)
    assert len(epochs) == 15
    chosen = []
    for number in range(3):
        of_exp = epochs[5 * number:5 * number + 5]
        values = [value for value, _ in of_exp]
        chosen.append(values.index(max(values)))
        assert same_weights(after[number], of_exp[chosen[-1]][1])
    assert any(epoch < 4 for epoch in chosen)  # the choice mattered
    anchor = ewc.saved_params[2]
    assert all(torch.equal(anchor[name].data, value) for name, value in after[2].items())


def test_held_out_samples_are_not_trained_on(stream):
    runner, seen = built(best(stream, val_ratio=0.25)), []
    loader = plugin(runner, 'LoadBest')
    spy(runner, 'training_epoch', lambda strategy: seen.append(
        (places(runner, strategy.dataloader.datasets[0]), places(runner, loader.validation))))
    run(runner)
    for trained, held_out in seen:
        labels = [runner.info.train[experience].targets[row] for experience, row in held_out]
        targets = runner.info.train[held_out[0][0]].targets
        assert [labels.count(label) for label in range(4)] == [round(targets.count(label) / 4) for label in range(4)]
        assert len(trained) + len(held_out) == 28 and not set(trained) & set(held_out)
        assert {experience for experience, _ in trained + held_out} == {held_out[0][0]}
    assert seen[0][1] == seen[3][1] and [row for _, row in seen[0][1]] != [row for _, row in seen[4][1]]


def test_legacy_reads_the_accuracy_of_the_epoch_before_and_restores_last(stream):
    cfg = best(stream, strategy='EWC', epochs=5, legacy=True)
    cfg['cl_strategy']['optimizer']['lr'] = 3.0
    cfg['cl_strategy']['scheduler'] = None
    runner, epochs = built(cfg), []
    spy(runner, '_after_training_epoch', lambda strategy: epochs.append([weights(runner), None]))
    inner = runner._measure

    def measure(experience):
        values = [value for _, value in epochs[5 * experience:]]
        judged = [None, *values[:-1]]  # the weights of epoch e by the accuracy of epoch e - 1
        pick = judged.index(max(judged[1:]))
        assert same_weights(weights(runner), epochs[5 * experience + pick][0])
        anchor = plugin(runner, 'EWCPlugin').saved_params[experience]
        assert all(torch.equal(anchor[name].data, value) for name, value in epochs[-1][0].items())
        return inner(experience)

    loader = plugin(runner, 'LoadBest')
    offered = loader.after_training_epoch

    def after_training_epoch(strategy, **kwargs):
        epochs[-1][1] = strategy.epoch_accuracy
        offered(strategy, **kwargs)

    loader.after_training_epoch = after_training_epoch
    runner._measure = measure
    run(runner)
    assert len(epochs) == 15


def test_nothing_can_be_held_out_of_a_memory(stream):
    cfg = config(stream, 'GDumb', plugins=[dict(type='LoadBest')])
    with pytest.raises(ConfigError, match="GDumb trains on data of its own.*Use split='train'"):
        built(cfg).train()
