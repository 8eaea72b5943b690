"""Runs, banks and tables show themselves: as text, and as HTML that needs nothing from outside."""

import html.parser
import json
from pathlib import Path

import pytest

from clear.core.errors import DataError
from clear.core.results import Results, write_results
from clear.engine.notebook.views import Picture, Run, Table

MATRIX = [[0.5, 0.25], [0.125, 1.0]]


class Tags(html.parser.HTMLParser):
    """Opened and closed tags of a page, which must agree."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [value for name, value in attrs if name in ('src', 'href')]
        if tag not in ('img', 'wbr'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags_of(shown):
    tags = Tags()
    tags.feed(shown)
    assert not tags.open and all(source.startswith('data:') for source in tags.sources)
    return tags.seen


def results(name='a <b>', **more):
    return Results(name, 'ContinualRunner', 'clear/iid/v1', acc_matrix=MATRIX,
                   metrics=dict(in_domain=0.75, next_domain=0.25, train_overlap=dict(accuracy=1.0), gone=None),
                   extras=dict(bucket_names=['1', '2']), **more)


def test_a_run_shows_metrics_matrix_and_figures(tmp_path, drawn_figures):
    write_results(tmp_path / 'results.json', results())
    run = Run(tmp_path)
    assert run.table().records() == [dict(metric='in_domain', value=0.75), dict(metric='next_domain', value=0.25),
                                     dict(metric='train_overlap accuracy', value=1.0)]
    assert run.matrix().records()[1] == {'bucket': '2', '1': 0.125, '2': 1.0}
    assert list(run.figures()) == ['accuracy_matrix', 'accuracy_over_time', 'forgetting']
    assert all(picture._repr_png_().startswith(b'\x89PNG') for picture in run.figures().values())
    assert run.figures()['forgetting'].save(tmp_path / 'x.png').read_bytes() == run.figures()['forgetting'].png
    shown = run._repr_html_()
    seen = tags_of(shown)
    assert seen.count('img') == 1 and 'accuracy_over_time' in shown and '<b>a &lt;b&gt;</b>' in shown
    assert tags_of(run.figures()._repr_html_()) == ['img'] * 3
    assert '0.125' in repr(run) and 'in_domain' in repr(run) and 'None' not in repr(run)


def test_a_run_of_parts_has_a_row_for_each(tmp_path):
    for seed in (10, 2):
        (tmp_path / f'seed_{seed}').mkdir()
        write_results(tmp_path / f'seed_{seed}' / 'results.json', results(seeds=dict(train=seed)))
    (tmp_path / 'lr_0.1' / 'seed_0').mkdir(parents=True)
    write_results(tmp_path / 'lr_0.1' / 'seed_0' / 'results.json', results())
    run = Run(tmp_path)
    assert run.results is None and run.matrix() is None and run.figures() == {}
    assert [row['run'] for row in run.table().records()] == ['seed_2', 'seed_10', 'lr_0.1/seed_0']
    assert '3 runs' in repr(run) and tags_of(run._repr_html_()).count('tr') == 4


def test_a_seed_that_the_summary_does_not_name_is_no_part(tmp_path):
    for seed in (0, 1, 2):
        (tmp_path / f'seed_{seed}').mkdir()
        write_results(tmp_path / f'seed_{seed}' / 'results.json', results(seeds=dict(train=seed)))
    (tmp_path / 'summary.json').write_text(json.dumps(dict(seeds=[0, 2], metrics={})))
    assert [part.work_dir.name for part in Run(tmp_path).parts] == ['seed_0', 'seed_2']


def test_an_unfinished_run_says_so(tmp_path):
    write_results(tmp_path / 'results.json', Results('x', 'ContinualRunner', 'clear/iid/v1',
                                                     acc_matrix=[[0.5, 0.5], [None, None]]))
    assert 'unfinished: 1 of 2 buckets' in repr(Run(tmp_path))
    (tmp_path / 'empty').mkdir()
    assert len(Run(tmp_path / 'empty').table()) == 0 and 'empty' in repr(Run(tmp_path / 'empty'))
    tags_of(Run(tmp_path / 'empty')._repr_html_())
    with pytest.raises(DataError, match='nowhere is no folder of a run'):
        Run(tmp_path / 'nowhere')


def test_figures_that_a_run_drew_itself_are_shown(tmp_path):
    write_results(tmp_path / 'results.json', Results('x', 'Runner', 'training/v1', metrics=dict(loss=0.5)))
    (tmp_path / 'figures').mkdir()
    (tmp_path / 'figures' / 'loss.png').write_bytes(b'\x89PNG')
    assert Run(tmp_path).figures() == dict(loss=Picture('loss', b'\x89PNG'))
    assert tags_of(Run(tmp_path).figures()._repr_html_()) == ['img']


def test_a_table_is_text_html_records_and_csv(tmp_path):
    table = Table(['name', 'value'], [['a & b', 0.5], ['longer', None], ['n', 3]])
    assert repr(table) == 'name    value\na & b   0.500\nlonger      -\nn           3'
    assert 'a &amp; b' in table._repr_html_() and tags_of(table._repr_html_()).count('tr') == 4
    assert json.dumps(table.records()[1]) == '{"name": "longer", "value": null}'
    assert Path(table.to_csv(tmp_path / 'x.csv')).read_text() == 'name,value\na & b,0.5\nlonger,\nn,3\n'
