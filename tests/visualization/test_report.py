from html.parser import HTMLParser

import pytest

from clear.continual.metrics import clear_metrics, overlap_mask
from clear.core.errors import DataError
from clear.core.results import Results
from clear.visualization.report import write_report

VOID = {'meta', 'img', 'br', 'wbr'}
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
        if {'td', 'th'} & {*self.open}:
            self.tables[-1][-1][-1] += data

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def tables_of(self, kind):
        classes = [attrs.get('class') or '' for attrs in self.find('table')]
        return [table for table, names in zip(self.tables, classes, strict=True) if kind in names.split()]

    @property
    def text(self):
        return ''.join(self.texts)


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
                ['torch', '9.8'], ['git commit', 'c0ffee'], ['git dirty', 'true'], ['total_s', '1.500'],
                ['experiences_s', '0.500, 1.000']):
        assert row in rows
    assert found.tables_of('matrix') == [[['bucket', '2004', '2005'], ['2004', '.500', '.250'],
                                          ['2005', '1.00', '.750']]]
    assert 'lr = 0.1' in found.texts
    assert [attrs['aria-label'] for attrs in found.find('svg') if attrs.get('role') == 'img'] == [
        f'tested on {name}. accuracy after training through each bucket' for name in ('2004', '2005')]
    assert [['2004', '', '-0.500']] in found.tables  # what was forgotten


def test_the_head_has_what_was_run_and_three_numbers(tmp_path):
    config = "scenario = {'type': 'CLEAR', 'data_name': 'clear10'}\nmodel = " \
             "{'backbone': {'type': 'ResNet', 'depth': 50}}"
    path = write_report(run(extras={'config_text': config, 'strategy': 'Replay', 'class_names': ['a', 'b', 'c']}),
                        tmp_path / 'report.html', date=0.0)
    head = path.read_text(encoding='utf-8').split('<header>')[1].split('</header>')[0]
    text = Page(head).text
    for expected in ('Continual learning', 'naive', 'Replay · ResNet-50', 'CLEAR clear10 · 2 buckets · 3 classes',
                     'clear/iid/v1', 'train 0', '1970-01-01 00:00 UTC', '0.625in_domain', '0.250next_domain',
                     '1.000backward_transfer'):
        assert expected in text
    assert head.count('class="value"') == 3


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
    headline, overlapped, *_ = found.tables_of('facts')
    assert [row[0] for row in headline] == ['next_domain', 'forward_transfer', 'final_domain']
    assert [row[0] for row in overlapped] == ['in_domain', 'accuracy', 'backward_transfer', 'forgetting',
                                              'challenge_score']
    assert any('measures training data' in text for text in found.texts)
    cells = [attrs.get('class', '').split() for attrs in found.find('td')][:4]
    assert ['overlap' in kinds for kinds in cells] == [True, False, True, True]
    numbers = found.text.split('final_domain')[0]
    assert 'next_domain' in numbers and 'in_domain' not in numbers.replace('final_domain', '')


def test_unfinished_run_says_how_far_it_got(tmp_path):
    found = page(tmp_path, run(matrix=[[0.5, 0.25], [None, None]]))
    assert 'Unfinished: 1 of 2 buckets measured.' in found.texts
    assert ['2', '-', '-'] in [row for table in found.tables for row in table]
    kinds = [attrs.get('class', '').split() for attrs in found.find('td')]
    assert sum('missing' in each for each in kinds) == 2


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
    assert [attrs['class'] for attrs in found.find('section')] == ['run'] * 3
    assert ['source', 'runs/b'] in [row for table in found.tables for row in table]
    assert [['naive', '', '0.675± 0.071 (2)', ''], ['ewc', '', '0.625', '-0.050']] in found.tables


def test_matrices_stand_side_by_side_and_less_the_first(tmp_path):
    found = page(tmp_path, [run(), run('ewc', matrix=[[0.7, 0.25], [1.0, None]]), run('wide', matrix=[[0.5] * 3] * 3,
                                                                                    overlap_mask=None)])
    naive, ewc, wide, change = found.tables_of('matrix')
    assert naive[1:] == [['1', '.500', '.250'], ['2', '1.00', '.750']] and ewc[2] == ['2', '1.00', '-']
    assert len(wide) == 4  # other buckets: there is no difference to the first
    assert change[1:] == [['1', '+.200', '.000'], ['2', '.000', '-']]
    assert found.text.count('0.25') >= 1 and 'Difference to naive' in found.text


def test_what_only_some_runs_measured_is_left_blank(tmp_path):
    runs = [run(metrics=dict(clear_metrics(MATRIX), flops=3e9)), run('ewc')]
    found = page(tmp_path, runs)
    assert [['naive', '', '3e+09', ''], ['ewc', '', '-', '']] in found.tables


def test_other_data_under_one_protocol_is_said(tmp_path):
    runs = [run(extras=dict(data_fingerprint='aa')), run('ewc', extras=dict(data_fingerprint='bb')), run('lwf')]
    assert 'different data, so their numbers do not compare (aa: naive; bb: ewc)' in page(tmp_path, runs).text
    assert 'different data' not in page(tmp_path, runs[1:]).text


def test_repeats_over_splits_are_on_the_same_data(tmp_path):
    def over(name, *of_splits):
        return [run(name, seeds=dict(train=0, split=split), extras=dict(data_fingerprint=fingerprint))
                for split, fingerprint in of_splits]

    both = ((0, 'aa'), (1, 'bb'))
    assert 'different data' not in page(tmp_path, [*over('naive', *both), *over('ewc', *both)]).text
    assert 'different data' in page(tmp_path, [*over('naive', *both), *over('ewc', both[0])]).text
    assert 'different data' in page(tmp_path, over('naive', *both, (2, 'cc')) + over('ewc', *both, (2, 'dd'))).text
    changed = [*over('naive', (0, 'aa')), run('naive', seeds=dict(train=1, split=0),
                                              extras=dict(data_fingerprint='bb'))]
    assert 'different data' in page(tmp_path, changed).text


def test_configs_are_compared_with_the_first(tmp_path):
    texts = ("optimizer = {'type': 'SGD', 'lr': 0.1}\nseed = 0", "optimizer = {'type': 'SGD', 'lr': 0.01}\nseed = 0")
    found = page(tmp_path, [run(name, extras=dict(config_text=text)) for name, text in zip('ab', texts)])
    assert [['optimizer.lr', '0.1 → 0.01']] in found.tables


def test_a_training_shows_its_curves(tmp_path):
    log = [dict(epoch=k, iteration=9 * k, loss=1 / k, lr=0.1, val_top1=None if k == 2 else 0.1 * k, table=[1, 2])
           for k in (1, 2, 3)]
    runs = [Results(name=name, runner='Runner', protocol='training/v1', metrics=dict(loss=0.3, val_top1=0.3),
                    extras=dict(train_log=log)) for name in ('one', 'two')]
    for results in (runs[0], runs):
        found = page(tmp_path, results)
        assert [attrs['aria-label'].split('.')[0] for attrs in found.find('svg') if attrs.get('role') == 'img'] == [
            'loss', 'val_top1', 'lr']
    assert 'val_top1' in found.text.split('Overview')[0]


def test_a_probing_run_shows_its_tasks(tmp_path):
    jobs = {'a--t': dict(encoder='a', task='t', state='done', result=dict(
        metric='rmse', value=0.5, higher_is_better=False, extras=dict(std=dict(rmse=0.125)))),
            'b--t': dict(encoder='b', task='t', state='done', result=dict(metric='rmse', value=0.75,
                                                                          higher_is_better=False)),
            'c--t': dict(encoder='c', task='t', state='failed')}
    found = page(tmp_path, Results(name='p', runner='ProbeRunner', protocol='clear/probe/v1',
                                   metrics={'a/t/rmse': 0.5}, extras=dict(jobs=jobs)))
    assert [['a', '', '0.500± 0.125'], ['b', '', '0.750'], ['c', '', 'failed']] in found.tables
    assert 't [rmse]lowest of 3 encoders: a' in found.text


def test_protocols_have_separate_tables(tmp_path):
    found = page(tmp_path, [run(), run(protocol='streaming')])
    iid, streaming = found.tables_of('overview')
    assert 'in_domain' in iid[0] and 'in_domain' not in streaming[0]
    assert 'each of these measures training data' in found.text and 'different protocols' in found.text


def test_given_figures_are_embedded_as_they_are(tmp_path):
    import base64

    (tmp_path / 'my_figure.png').write_bytes(b'bytes of a figure')
    found = page(tmp_path, run(), figures=[tmp_path / 'my_figure.png'])
    assert found.find('img') == [{'alt': 'my figure', 'src': 'data:image/png;base64,'
                                  + base64.b64encode(b'bytes of a figure').decode()}]


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    write_report(run(), tmp_path / 'report.html', figures=())
    before = (tmp_path / 'report.html').read_bytes()
    with pytest.raises(DataError, match='same seeds'):
        write_report([run(), run()], tmp_path / 'report.html')
    with pytest.raises(ValueError, match='at least one run'):
        write_report([], tmp_path / 'report.html')
    assert (tmp_path / 'report.html').read_bytes() == before


def test_matrices_of_tasks_share_a_scale(tmp_path):
    matrices = {'knn/each': [[0.5, None]], 'lin/each': [[0.25, 0.75]], 'rmse/each': [[3.0, 4.0]]}
    found = page(tmp_path, Results(
        name='time', runner='RepresentationOverTime', protocol='over-time/v1', metrics={'knn/each/in_domain': 0.5},
        acc_matrix=matrices['knn/each'], extras=dict(matrices=matrices, bucket_names=['a', 'b'],
                                                     checkpoints=[dict(name='last', through='b', file=None)])))
    assert [table[1] for table in found.tables_of('matrix')] == [['last', '.500', '-'], ['last', '.250', '.750'],
                                                                 ['last', '3.00', '4.00']]
    kinds = [attrs['class'] for attrs in found.find('td') if attrs.get('class', '')[:1] == 'h']
    assert kinds == ['h5', 'h0', 'h10 own', 'h0', 'h10 own']
    assert 'Representation over time' in found.text
