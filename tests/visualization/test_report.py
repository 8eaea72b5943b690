from html.parser import HTMLParser

import pytest

from clear.continual.metrics import clear_metrics, overlap_mask
from clear.core.errors import DataError
from clear.core.results import Results
from clear.visualization.report import write_report

VOID = {'meta', 'img', 'br'}
MATRIX = [[0.5, 0.25], [1.0, 0.75]]


class Page(HTMLParser):
    """A page as tags with attributes, texts, and tables of cell texts; fails on tags that do not nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.tables, self.texts = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if 'style' not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ('td', 'th'):
            self.tables[-1][-1][-1] += data

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def run(name='naive', seed=0, protocol='iid', matrix=MATRIX, **changes):
    values = {'name': name, 'runner': 'ContinualRunner', 'protocol': f'clear/{protocol}/v1', 'acc_matrix': matrix,
              'metrics': clear_metrics(matrix, protocol), 'overlap_mask': overlap_mask(2, protocol),
              'seeds': {'train': seed}, 'config_hash': 'ab12', 'versions': {'torch': '9.8'},
              'git': {'commit': 'c0ffee', 'dirty': True}, 'timing': {'total_s': 1.5, 'experiences_s': [0.5, 1.0]}}
    return Results(**{**values, **changes})


def page(tmp_path, results, **options):
    path = write_report(results, tmp_path / 'report.html', **options)
    return Page(path.read_text(encoding='utf-8'))


def test_report_holds_everything_about_the_run(tmp_path):
    found = page(tmp_path, run(extras={'config_text': 'lr = 0.1', 'bucket_names': ['2004', '2005']}))
    rows = [row for table in found.tables for row in table]
    for row in (['protocol', 'clear/iid/v1'], ['seeds', 'train: 0'], ['config hash', 'ab12'], ['in_domain', '0.625'],
                ['torch', '9.8'], ['commit', 'c0ffee'], ['dirty', 'true'], ['total_s', '1.500'],
                ['experiences_s', '0.500, 1.000']):
        assert row in rows
    assert [['bucket', '2004', '2005'], ['2004', '0.500', '0.250'], ['2005', '1.000', '0.750']] in found.tables
    assert 'lr = 0.1' in found.texts
    assert len(found.find('img')) == 3


def test_report_asks_for_nothing_from_outside(tmp_path):
    found = page(tmp_path, run())
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in found.tags}
    for _, attrs in found.tags:
        assert attrs.get('src', 'data:image/png;base64,').startswith('data:image/png;base64,')
        assert not {'href', 'srcset', 'style'} & set(attrs)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert 'http' not in text.replace('http-equiv', '') and 'url(' not in text and '@import' not in text
    assert {'name': 'viewport', 'content': 'width=device-width, initial-scale=1'} in found.find('meta')


def test_text_is_escaped_everywhere(tmp_path):
    bad = '<script>&"\''
    changes = {'metrics': {bad: 0.5, 'train_overlap': {bad: 0.5}}, 'seeds': {bad: 1}, 'versions': {bad: bad},
               'git': {'commit': bad}, 'timing': {bad: bad}, 'config_hash': bad, 'runner': bad,
               'extras': {'bucket_names': [bad, 'b'], 'config_text': bad, 'class_names': [bad]}}
    runs = [run(bad, **changes), run(bad, **changes)]
    runs[1].protocol = bad
    for results, sources in ((runs[1], None), (runs, [bad, bad])):
        found = page(tmp_path, results, sources=sources)
        assert found.find('script') == []
        assert bad in found.texts


def test_training_accuracy_is_no_headline(tmp_path):
    found = page(tmp_path, run(protocol='streaming'))
    _, headline, overlapped, matrix, *_ = found.tables
    assert [row[0] for row in headline] == ['next_domain', 'forward_transfer', 'final_domain']
    assert [row[0] for row in overlapped] == ['in_domain', 'accuracy', 'backward_transfer', 'forgetting',
                                              'challenge_score']
    assert any('measures training data' in text for text in found.texts)
    marked = [attrs['class'] for attrs in found.find('td') if 'number' in attrs.get('class', '')]
    assert [mark == 'number overlap' for mark in marked] == [True, False, True, True]


def test_unfinished_run_says_how_far_it_got(tmp_path):
    found = page(tmp_path, run(matrix=[[0.5, 0.25], [None, None]]))
    assert 'Unfinished: 1 of 2 buckets measured.' in found.texts
    assert ['2', '-', '-'] in [row for table in found.tables for row in table]
    assert [attrs.get('class') for attrs in found.find('td')].count('number missing') == 2


def test_a_run_without_matrix_has_a_report(tmp_path):
    found = page(tmp_path, run(acc_matrix=None, overlap_mask=None, metrics={'top1': 0.5}, git=None))
    assert [['top1', '0.500']] in found.tables
    assert found.find('img') == []


def test_several_runs_are_compared_first(tmp_path):
    better = [[0.7, 0.25], [1.0, 0.75]]
    runs = [run(seed=0), run(seed=1, matrix=better), run('ewc')]
    found = page(tmp_path, runs, sources=['runs/a', 'runs/b', 'runs/c'])
    header, naive, ewc = found.tables[0]
    assert header[:4] == ['run', 'buckets', 'in_domain', 'next_domain']
    assert naive[:4] == ['naive', '2 of 2', '0.675 ± 0.071 (2)', '0.250 ± 0.000 (2)']
    assert ewc[:4] == ['ewc', '2 of 2', '0.625', '0.250']
    assert len(found.find('section')) == 3
    assert ['source', 'runs/b'] in [row for table in found.tables for row in table]
    assert [attrs['alt'] for attrs in found.find('img')] == ['metrics clear-iid-v1', 'next domain clear-iid-v1']


def test_protocols_have_separate_tables(tmp_path):
    found = page(tmp_path, [run(), run(protocol='streaming')], figures=[])
    iid, streaming, overlapped, *_ = found.tables
    assert 'in_domain' in iid[0] and 'in_domain' not in streaming[0] and 'in_domain' in overlapped[0]
    assert any('different protocols' in text for text in found.texts)


def test_given_figures_are_embedded_as_they_are(tmp_path):
    import base64

    (tmp_path / 'my_figure.png').write_bytes(b'bytes of a figure')
    found = page(tmp_path, run(), figures=[tmp_path / 'my_figure.png'])
    assert found.find('img') == [{'alt': 'my figure', 'src': 'data:image/png;base64,'
                                  + base64.b64encode(b'bytes of a figure').decode()}]


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    write_report(run(), tmp_path / 'report.html', figures=[])
    before = (tmp_path / 'report.html').read_bytes()
    with pytest.raises(DataError, match='same seeds'):
        write_report([run(), run()], tmp_path / 'report.html')
    with pytest.raises(ValueError, match='at least one run'):
        write_report([], tmp_path / 'report.html')
    assert (tmp_path / 'report.html').read_bytes() == before
