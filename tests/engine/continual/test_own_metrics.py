"""Metrics of a user's own that are functions of the accuracy matrix."""

import pytest
from clear_trees import write_clear_tree
from quick_runs import config, trained

from clear.core.errors import ConfigError
from clear.core.results import read_results
from clear.registry import CL_METRICS


@CL_METRICS.register_module()
class LowestCell:
    """The lowest accuracy so far, and what its constructor was given."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def of_matrix(self, acc_matrix):
        known = [value for row in acc_matrix for value in row if value is not None]
        return dict(lowest=self.scale * min(known) if known else None, **self.more())

    def more(self):
        return {}


@CL_METRICS.register_module()
class FailingCell(LowestCell):
    def of_matrix(self, acc_matrix):
        return dict(lowest=min(min(row) for row in acc_matrix))


@CL_METRICS.register_module()
class TakenCell(LowestCell):
    def more(self):
        return dict(in_domain=0.5)


@CL_METRICS.register_module()
class TextCell(LowestCell):
    def more(self):
        return dict(other='high')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'features', features=8, per_class=10, images=False)


def test_it_lands_in_results_beside_clears(root, tmp_path):
    runner = trained(config(root, metrics=[dict(type='LowestCell', scale=2.0), dict(type='loss_metrics', epoch=True)]),
                     tmp_path)
    results = read_results(tmp_path / 'results.json')
    assert results.metrics['lowest'] == 2 * min(value for row in results.acc_matrix for value in row)
    assert list(results.metrics)[0] == 'in_domain' and runner.found.metrics == results.metrics


@pytest.mark.parametrize('name, message', [
    ('FailingCell', r'FailingCell.of_matrix failed: TypeError.*not measured are None'),
    ('TakenCell', "TakenCell gives 'in_domain', a name that is taken"),
    ('TextCell', "TextCell gives other = 'high'; expected a number or None")])
def test_what_cannot_be_stored_is_refused_before_training(root, name, message):
    from clear.engine.continual.runner import ContinualRunner

    with pytest.raises(ConfigError, match=message):
        ContinualRunner(config(root, metrics=[dict(type=name)])).build()
