"""Stopped inside an experience and resumed, for three kinds of memory; `test_resume_inside` takes every strategy."""

import pytest
from many_strategies import assert_same_run, built, stopped, trained
from tiny_runs import write_stream

from clear.core.files import load_tensors
from clear.core.seeding import seed_everything


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


# Of 8 iterations in two epochs: inside the first, at its end, and inside the second.
@pytest.mark.parametrize('name, iteration', [('Replay', 2), ('LwF', 4), ('DER', 7)])
def test_resumed_inside_an_experience(name, iteration, stream, tmp_path):
    whole = trained(built(stream, name, tmp_path / 'whole', head='noisy'))
    folder = tmp_path / 'parts'
    stopped(built(stream, name, folder, head='noisy'), 1, iteration)
    assert load_tensors(folder / 'iteration.pth')['inside']['loader']['position'] == (iteration - 1) % 4 + 1
    seed_everything(987654321)
    parts = trained(built(stream, name, folder, head='noisy'), resume=True)
    assert not (folder / 'iteration.pth').exists()
    assert_same_run(whole, parts)


HERDING = dict(type='HerdingSelectionStrategy', layer_name='head.layers.0')
MEMORIES = {'class': dict(type='ClassBalancedBuffer'), 'herding': dict(type='ParametricBuffer', groupby='experience',
                                                                       selection_strategy=HERDING)}


@pytest.mark.parametrize('kind', MEMORIES)
@pytest.mark.parametrize('legacy', [False, True])
def test_a_memory_of_groups_goes_on_alike(kind, legacy, stream, tmp_path):
    options = dict(head='hidden', mem_size=11, storage_policy=dict(MEMORIES[kind], max_size=11, legacy=legacy))
    whole = trained(built(stream, 'Replay', tmp_path / 'whole', **options))
    stopped(built(stream, 'Replay', tmp_path / 'parts', **options), 1, 3)
    seed_everything(987654321)
    assert_same_run(whole, trained(built(stream, 'Replay', tmp_path / 'parts', **options), resume=True))


def test_resumed_inside_the_first_experience(stream, tmp_path):
    """There is no file of a finished experience yet."""
    whole = trained(built(stream, 'Naive', tmp_path / 'whole', head='noisy'))
    stopped(built(stream, 'Naive', tmp_path / 'parts', head='noisy'), 0, 3)
    assert {path.name for path in (tmp_path / 'parts').glob('*.pth')} == {'iteration.pth'}
    seed_everything(987654321)
    assert_same_run(whole, trained(built(stream, 'Naive', tmp_path / 'parts', head='noisy'), resume=True))
