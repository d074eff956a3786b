"""The page in headless Chromium: what a reader does with it, without a network and without an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import product

import pytest
from made_records import COUNTS, IMAGES, make_record, write

from ltbench.record import record_name, write_failure
from ltbench.verbs.report import report

pytestmark = pytest.mark.slow
FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run', '--force-prefers-reduced-motion',
)  # fmt: skip
HITS = {'erm': 20, 'low': 10, 'nbn+la_loss': 40, 'crt': 30}  # of the images of each class
TABLE = 'cifar10_lt-if100'


@pytest.fixture(scope='module')
def browser() -> Iterator:
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    programs = [shutil.which(name) for name in ('chromium', 'chromedriver')]
    if not all(programs):
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, results) -> Iterator:
    for method, hits in HITS.items():
        for seed in (0, 1):
            write(make_record(method, seed, hits=[hits + seed] * len(COUNTS)))
    for factor in (10, 50):
        write(make_record('erm', 0, factor=factor), 'other')
    write_failure('made', make_record('broken', 3), 'train', 'out of memory')
    for suite in ('made', 'other'):
        report(suite, figures=False)
    browser.get('about:blank')
    browser.get_log('browser'), browser.get_log('performance')
    size(browser, 1280)
    browser.address = (results / 'index.html').as_uri()
    browser.get(browser.address)
    yield browser
    assert browser.get_log('browser') == []
    messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    asked = [m['params']['request']['url'] for m in messages if m['method'] == 'Network.requestWillBeSent']
    assert asked and all(url.startswith(('file:', 'data:')) for url in asked), asked


def size(browser, width: int) -> None:
    metrics = {'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': width < 500}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)


def go(browser, fragment: str) -> None:
    browser.get('about:blank')
    browser.get(browser.address + fragment)


def find(browser, selector: str):
    return browser.find_element('css selector', selector)


def texts(browser, selector: str) -> list[str]:
    return [element.text.strip() for element in browser.find_elements('css selector', selector)]


def test_the_first_screen_is_finding_and_map(opened):
    assert texts(opened, '.findings li') == [
        'cifar10_lt, imbalance factor 100 (paper): NBN + Logit adjustment is best with 81.0 %, ERM has 41.0 %. 2 seeds'
    ]
    heads = [text.split('\n')[0] for text in texts(opened, '.map thead th')]
    assert heads == ['method', 'cifar10_lt', 'cifar10_lt', 'cifar10_lt', 'cifar100_lt', 'imagenet_lt', 'inat2018']
    assert texts(opened, '.map thead th .empty') == ['not run'] * 3
    rows = dict(zip(texts(opened, '.map tbody th'), texts(opened, '.map tbody tr'), strict=True))
    assert rows['ERM'].split()[1] == '41.0' and rows['Low'].split()[1] == '−20.0'
    families = ['Baselines', 'Two-stage', 'BN normalisation and controls', 'Other']
    assert [name for name in texts(opened, '.families span') if name in families] == families
    bottom = opened.execute_script('return document.querySelector(".map thead").getBoundingClientRect().bottom')
    assert bottom < 400


def test_a_cell_opens_its_table_and_a_link_can_be_shared(opened):
    find(opened, '.map td.up a').click()
    assert opened.current_url.endswith(f'#made/{TABLE}')
    assert find(opened, 'h1').text == 'cifar10_lt, imbalance factor 100 (paper)'
    go(opened, f'#made/{TABLE}?rank=few&show=erm,low&chart=classes')
    assert texts(opened, '.results tbody th') == ['ERM', 'Low']
    assert find(opened, '[aria-sort]').text.startswith('few')
    assert 'Low minus ERM' in find(opened, '.side svg').get_attribute('aria-label')
    go(opened, '#nothing/here')
    assert find(opened, '.map') and 'not on this page' in find(opened, '#said').get_attribute('textContent')


def test_sort_and_filter(opened):
    go(opened, f'#made/{TABLE}')
    assert texts(opened, '.results tbody th') == ['NBN + Logit adjustment', 'cRT', 'ERM', 'Low']
    find(opened, '[data-sort=ece]').click()
    assert find(opened, '[aria-sort]').get_attribute('aria-sort') == 'ascending'
    assert 'rank=ece' in opened.current_url
    find(opened, 'input[type=search]').send_keys('NBN')
    assert texts(opened, '.results tbody th') == ['NBN + Logit adjustment']
    assert len(opened.find_elements('css selector', '.side circle.many')) == 1, 'the chart follows'
    find(opened, 'input[type=search]').send_keys('x')
    assert find(opened, '.board').text == 'No method fits.'


def test_charts_are_shown_one_at_a_time(opened):
    go(opened, f'#made/{TABLE}')
    assert texts(opened, '.side [data-chart]') == ['Groups', 'Classes', 'Cost']
    for name in ('classes', 'cost', 'groups'):
        find(opened, f'[data-chart={name}]').click()
        assert len(opened.find_elements('css selector', '.side svg')) == 1
        assert f'chart={name}' in opened.current_url
    go(opened, '#other/cifar10_lt-if10?chart=imbalance')
    assert find(opened, '.side svg').get_attribute('aria-label') == 'Top-1 by imbalance factor'


def test_open_a_run_and_close_it(opened):
    from selenium.webdriver import Keys

    go(opened, f'#made/{TABLE}')
    find(opened, '.results tbody th button').send_keys(Keys.ENTER)
    link = find(opened, 'tr.runs button')
    link.send_keys(Keys.ENTER)
    dialog = find(opened, 'dialog[open]')
    assert 'NBN + Logit adjustment, seed 0' in dialog.text and 'nbn+la_loss' in dialog.text
    assert f'{100 * HITS["nbn+la_loss"] / IMAGES:.2f}' in dialog.text
    assert len(dialog.find_elements('css selector', 'svg.chart')) == 5  # four curves; classes
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not opened.find_elements('css selector', 'dialog[open]')
    assert opened.switch_to.active_element == link
    assert 'run=' not in opened.current_url


def test_an_address_opens_a_run(opened):
    run = record_name(make_record('low', 1)).removesuffix('.json')
    go(opened, f'#made/{TABLE}?run={run}')
    assert 'Low, seed 1' in find(opened, 'dialog[open]').text
    find(opened, 'dialog [data-run]:not([aria-current])').click()
    assert 'Low, seed 0' in find(opened, 'dialog[open]').text
    go(opened, f'#made/{TABLE}?run=nothing')
    assert not opened.find_elements('css selector', 'dialog[open]')
    assert 'not on this page' in find(opened, '#said').get_attribute('textContent')


def test_a_row_shows_its_family_by_colour_shape_and_name(opened):
    go(opened, f'#made/{TABLE}')
    shapes = opened.find_elements('css selector', '.results tbody svg.family')
    assert [shape.get_attribute('aria-label') for shape in shapes] == [
        'BN normalisation and controls', 'Two-stage', 'Baselines', 'Other',
    ]  # fmt: skip
    outlines = opened.execute_script(
        'return [...document.querySelectorAll(".results svg.family path")].map((p) => p.getAttribute("d"))'
    )
    assert len(set(outlines)) == 4
    assert texts(opened, '.families span') == ['Baselines', 'Two-stage', 'BN normalisation and controls', 'Other']
    find(opened, 'input[type=search]').send_keys('two-stage')
    assert texts(opened, '.results tbody th') == ['cRT']


def test_a_suite_opens_its_most_imbalanced_table(opened):
    find(opened, '#suites a:last-child').click()
    assert find(opened, 'h1').text == 'cifar10_lt, imbalance factor 50 (paper)'


def test_back_returns_to_the_map(opened):
    find(opened, '.map td.up a').click()
    opened.back()
    assert find(opened, '.map')


def test_dark_is_remembered(opened):
    def paper() -> str:
        return opened.execute_script('return getComputedStyle(document.body).backgroundColor')

    light = paper()
    find(opened, '#theme').click()
    dark = paper()
    assert dark != light
    opened.refresh()
    assert paper() == dark
    find(opened, '#theme').click()
    assert paper() == light


@pytest.mark.parametrize('fragment', ['', f'#made/{TABLE}', '#other/cifar10_lt-if10'])
@pytest.mark.parametrize('width', [390, 1280])
def test_the_page_does_not_scroll_sideways(opened, width, fragment):
    size(opened, width)
    go(opened, fragment)
    wide, visible = opened.execute_script('const r = document.documentElement; return [r.scrollWidth, r.clientWidth]')
    assert wide == visible <= width
    if 'made' in fragment:
        few = find(opened, '.results tbody td:nth-child(6)').rect
        assert few['x'] + few['width'] <= width, 'few can be seen'


def test_equal_methods_are_one_row_of_the_map_and_named_twice(opened):
    for method in ('la_loss', 'balanced_softmax'):
        write(make_record(method, hits=[25] * len(COUNTS), computation='ab' * 32, fingerprint='cd' * 32), 'equal')
    write(make_record('erm'), 'equal')
    report('equal', figures=False)
    go(opened, '')
    named = texts(opened, '.map tbody th')
    assert 'Logit adjustment = Balanced softmax' in named and 'Balanced softmax' not in named


def test_a_table_is_printed_on_one_page(opened):
    import base64
    import re

    for number, seed in product(range(31), (0, 1)):
        name = f'nbn(normalize=bias, bias_init=ones, r={number})+balanced_softmax'
        write(make_record(name, seed, hits=[number + seed] * len(COUNTS)), 'long')
    for seed in (0, 1):
        write(make_record('erm', seed), 'long')
    report('long', figures=False)
    for fragment in (f'#made/{TABLE}', f'#long/{TABLE}'):
        go(opened, fragment)
        printed = base64.b64decode(opened.execute_cdp_cmd('Page.printToPDF', {'preferCSSPageSize': True})['data'])
        assert len(re.findall(rb'/Type\s*/Page\b', printed)) == 1, fragment
