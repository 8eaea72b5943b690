import pytest

from clear.core.configs.signatures import accepted_arguments, check_keys, required_arguments
from clear.core.errors import ConfigError


class Base:
    def __init__(self, model, size=1):
        pass


class Open(Base):
    def __init__(self, *, rate, **kwargs):
        super().__init__(**kwargs)


class OpenAgain(Open):
    """Has no constructor of its own."""


class Closed(Open):
    def __init__(self, depth=2):
        super().__init__(rate=1)


class OpenToAll:
    def __init__(self, name=None, **kwargs):
        pass


class Positional:
    def __init__(self, first, /, second, *rest, third):
        pass


class Nothing:
    pass


def takes_all(a, b=1, *, c):
    pass


def takes_more(a, **kwargs):
    pass


@pytest.mark.parametrize('obj, expected', [
    (Base, {'model', 'size'}), (Open, {'model', 'size', 'rate'}), (OpenAgain, {'model', 'size', 'rate'}),
    (Closed, {'depth'}), (OpenToAll, None), (Positional, {'second', 'third'}), (Nothing, set()),
    (takes_all, {'a', 'b', 'c'}), (takes_more, None), (dict, set())],
    ids=lambda value: getattr(value, '__name__', 'names'))
def test_accepted_arguments_are_those_that_can_be_given_by_name(obj, expected):
    assert accepted_arguments(obj) == expected


@pytest.mark.parametrize('obj, expected', [
    (Base, {'model'}), (Open, {'rate'}), (Nothing, set()), (takes_all, {'a', 'c'}), (takes_more, {'a'})])
def test_required_arguments_have_no_default(obj, expected):
    assert required_arguments(obj) == expected


def test_avalanche_strategies_accept_what_their_templates_take():
    from avalanche.training.supervised import EWC, Replay

    from clear.continual.repairs.regularisation.synaptic_intelligence import SynapticIntelligence

    assert {'mem_size', 'train_mb_size', 'train_epochs', 'eval_mb_size'} <= accepted_arguments(Replay)
    assert 'ewc_lambda' in accepted_arguments(EWC) and 'mem_size' not in accepted_arguments(EWC)
    assert {'legacy', 'si_lambda', 'train_mb_size'} <= accepted_arguments(SynapticIntelligence)


def test_an_unknown_key_is_refused_with_the_nearest_and_all_known_ones():
    with pytest.raises(ConfigError) as error:
        check_keys('model.head', ['size', 'modle'], {'model', 'size'}, 'Base')
    assert str(error.value) == "model.head: Base has no key 'modle'. Did you mean 'model'? Known: model, size."
    with pytest.raises(ConfigError, match=r"^x: Base has no key 'qqq'. Known: model\.$"):
        check_keys('x', {'qqq': 1}, {'model'}, 'Base')


def test_known_keys_pass_and_open_signatures_take_any():
    check_keys('x', ['size'], {'size'}, 'Base')
    check_keys('x', [], set(), 'Base')
    check_keys('x', ['anything'], None, 'OpenToAll')
