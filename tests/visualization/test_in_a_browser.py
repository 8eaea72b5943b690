"""Both pages in Chromium: nothing is wider than the window, asks for anything or complains, whatever its names."""

import shutil

import numpy as np
import pytest

from clear.continual.metrics import clear_metrics, overlap_mask
from clear.core.results import Results
from clear.visualization.report import write_report

NAMES = ['naive', '実験 バケット', 'تجربة التعلم المستمر', 'long_' * 40, 'x' * 150, '<b>&"\'']
# What is wider than the window, and no part of something that scrolls or cuts by itself.
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(each => {
    const box = each.getBoundingClientRect();
    if (!box.width || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
    for (let at = each.parentElement; at !== document.body; at = at.parentElement)
        if (getComputedStyle(at).overflowX !== 'visible') return false;
    return true;
}).map(each => `${each.tagName} ${each.getAttribute('class')} ${each.textContent.slice(0, 40)}`)"""


def made_run(k, size, num_metrics, protocol='iid'):
    """The k-th run: its matrix has gaps, some of its metrics are missing, and its names are what people may write."""
    matrix = np.random.default_rng(k).uniform(0.2, 0.9, (size, size)).tolist()
    if k % 3 == 1:
        matrix[-1] = [None] * size
    metrics = clear_metrics(matrix, protocol) | {
        f'own/group_{j}/a_metric_with_a_long_name_{j}': None if (j + k) % 5 == 0 else float('nan') if j % 7 == 6 else
        10.0 ** (j % 13 - 5) for j in range(num_metrics)}
    buckets = ['2004-01-01T00:00 to 2005', '時間の桶' * 9, '<script>', *map(str, range(size))][:size]
    log = [dict(experience=i, loss=1.0 / (i + 1), accuracy=None if i == 2 else 0.5) for i in range(size)]
    return Results(name=f'{NAMES[k % len(NAMES)]}{k}', runner='ContinualRunner', protocol=f'clear/{protocol}/v1',
                   metrics=metrics, acc_matrix=matrix, overlap_mask=overlap_mask(size, protocol), seeds=dict(train=k),
                   config_hash='ab' * 20, timing=dict(train_s=1.5), versions=dict(torch='9.8'),
                   extras=dict(bucket_names=buckets, class_names=['c' * 80] * 30, train_log=log,
                               data_fingerprint='ab' * 32, config_text=f'path = {"/a_folder" * 40!r}\nlr = 0.{k}'))


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pages')
    runs = [made_run(k, 30, 100) for k in range(12)]
    small = [made_run(k, 10, 0) for k in range(4)]
    jobs = {f'{encoder}{task}': dict(encoder=encoder, task=f'task_{task}', state='done',
                                     result=dict(metric='top1', value=task / 10))
            for encoder in NAMES for task in range(9)}
    probing = Results(name='p' * 90, runner='ProbeRunner', protocol='clear/probe/v1',
                      metrics={f'{key}/top1': 0.5 for key in jobs}, extras=dict(jobs=jobs))
    sources = ['/a/very/long/path' * 12] * 12
    written = dict(
        one=write_report(small[0], folder / 'one.html', date=0.0),
        large=write_report(runs[4], folder / 'large.html'),
        streaming=write_report(made_run(5, 10, 3, 'streaming'), folder / 'streaming.html'),
        probing=write_report(probing, folder / 'probing.html'),
        few=write_report(small, folder / 'few.html'),
        many=write_report(runs, folder / 'many.html', sources=sources),
        mixed=write_report([*small[:2], probing, made_run(2, 10, 3, 'streaming')], folder / 'mixed.html'))
    assert written['one'].stat().st_size < 100_000 and written['few'].stat().st_size < 200_000
    return written


@pytest.fixture(scope='module')
def browser():
    if not shutil.which('chromium'):
        pytest.skip('no Chromium: apt-get install chromium')
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['one', 'large', 'streaming', 'probing', 'few', 'many', 'mixed'])
def test_nothing_is_wider_than_the_window(browser, pages, name):
    for theme in ('light', 'dark'):
        tab = browser.new_page(color_scheme=theme, viewport=dict(width=360, height=900))
        said, asked = [], []
        tab.on('console', lambda message, said=said: said.append(message.text))
        tab.on('pageerror', lambda error, said=said: said.append(str(error)))
        tab.on('request', lambda request, asked=asked: asked.append(request.url))
        tab.goto(pages[name].as_uri())
        for width in (360, 800, 1400):
            tab.set_viewport_size(dict(width=width, height=900))
            for opened in (False, True):
                tab.evaluate('all => document.querySelectorAll("details").forEach(each => each.open ||= all)', opened)
                assert tab.evaluate('document.scrollingElement.scrollWidth <= innerWidth'), (name, theme, width, opened)
                assert tab.evaluate(TOO_WIDE) == [], (name, theme, width, opened)
        assert said == [] and asked == [pages[name].as_uri()]
        tab.close()


@pytest.mark.slow
def test_themes_differ_and_paper_has_everything(browser, pages):
    tab = browser.new_page(viewport=dict(width=800, height=900))
    tab.goto(pages['one'].as_uri())
    colors = {}
    for theme in ('light', 'dark'):
        tab.emulate_media(color_scheme=theme)
        colors[theme] = tab.evaluate('[document.body, document.querySelector("td.own")].map('
                                     'each => [getComputedStyle(each).color, getComputedStyle(each).backgroundColor])')
    assert all(light != dark for light, dark in zip(colors['light'], colors['dark']))
    is_shown = 'document.querySelector("pre").checkVisibility()'
    assert tab.evaluate(is_shown) is False  # the config is folded
    tab.emulate_media(media='print', color_scheme='dark')
    assert tab.evaluate(is_shown) is True
    assert tab.evaluate('getComputedStyle(document.body).color') == colors['light'][0][0]
    assert tab.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert tab.evaluate('getComputedStyle(document.documentElement).colorScheme') in ('only light', 'light only')
    assert len(tab.pdf(format='A4')) > 10_000
    tab.close()


@pytest.mark.slow
def test_cells_are_not_cut(browser, pages):
    tab = browser.new_page(viewport=dict(width=360, height=900))
    for name in ('one', 'few'):
        tab.goto(pages[name].as_uri())
        tab.evaluate('document.querySelectorAll("details").forEach(each => each.open = true)')
        assert tab.evaluate('[...document.querySelectorAll("table.matrix td")].filter('
                            'each => each.scrollWidth > each.clientWidth).map(each => each.textContent)') == []
    tab.close()
