"""The page in headless Chromium: what a reader does with it, without a network and without an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from made_records import COUNTS, IMAGES, make_record

from ltbench.report import tables
from ltbench.report.page import Contents, page
from ltbench.report.page_data import run_id

pytestmark = pytest.mark.slow
FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run', '--force-prefers-reduced-motion',
)  # fmt: skip
HITS = {'erm': 40, 'low': 10, 'tie_b': 30, 'tie_a': 30}  # of the images of each class


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
def records():
    made = [make_record(m, s, hits=[h + s] * len(COUNTS)) for m, h in HITS.items() for s in (0, 1)]
    few = (5000, 1500, 400, 120)
    return [*made, make_record('erm', 0, benchmark='other_lt', factor=None, counts=few, epochs=1)]


@pytest.fixture
def opened(browser, records, tmp_path) -> Iterator:
    failed = {
        key: records[0][key] for key in ('benchmark', 'imbalance_factor', 'setting', 'table', 'run_seed', 'fingerprint')
    }
    failed |= {'method': 'broken', 'stage': 'train', 'reason': 'out of memory'}
    board = tables.leaderboard(tables.runs_frame(records))
    ablation = pd.DataFrame({'option': ['a', 'b', 'c'], 'top1_mean': [9.0, float('nan'), 10.0]})
    path = tmp_path / 'index.html'
    path.write_text(page(Contents('made', ['ltbench run made'], records, board, [failed], ablations={'A': ablation})))
    browser.get('about:blank')
    browser.get_log('browser'), browser.get_log('performance')
    size(browser, 1280)
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log('browser') == []
    messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    asked = [m['params']['request']['url'] for m in messages if m['method'] == 'Network.requestWillBeSent']
    assert asked and all(url.startswith(('file:', 'data:')) for url in asked), asked


def size(browser, width: int) -> None:
    metrics = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 500}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)


def find(browser, selector: str):
    return browser.find_element('css selector', selector)


def methods(browser) -> list[str]:
    rows = browser.find_elements('css selector', '.board:not([hidden]) tr[data-row]:not([hidden]) th')
    return [row.text.strip() for row in rows]


def head(browser, table: str, name: str):
    return find(browser, f'{table} thead th[data-name="{name}"] button')


def test_sort(opened):
    assert methods(opened) == ['erm', 'tie_a', 'tie_b', 'low', 'broken', 'erm']
    head(opened, '.results', 'few').click()
    assert find(opened, '.results [aria-sort]').get_attribute('aria-sort') == 'descending'
    head(opened, '.results', 'few').click()
    assert methods(opened)[:5] == ['low', 'tie_a', 'tie_b', 'erm', 'broken'], 'ties as they were, nothing last'
    assert find(opened, '.results [aria-sort]').get_attribute('aria-sort') == 'ascending'
    assert 'sorted by few, lowest first' in find(opened, '#count').text
    assert find(opened, '[name=metric]').get_attribute('value') == 'few'
    head(opened, '.results', 'method').click()
    assert methods(opened)[:5] == ['broken', 'erm', 'low', 'tie_a', 'tie_b']


def test_numbers_are_sorted_as_numbers_and_nothing_is_last_both_ways(opened):
    button = opened.find_elements('css selector', '#ablations thead button')[1]
    orders = []
    for _ in range(2):
        button.click()
        orders.append([cell.text for cell in opened.find_elements('css selector', '#ablations tbody td:first-child')])
    assert orders == [['c', 'a', 'b'], ['a', 'c', 'b']]


def test_filter(opened):
    from selenium.webdriver.support.ui import Select

    find(opened, '[name=method]').send_keys('TIE')
    assert sorted(methods(opened)) == ['tie_a', 'tie_b']
    assert find(opened, '#count').text.startswith('Showing 2 of 6 rows')
    find(opened, '[name=method]').send_keys('x')
    assert methods(opened) == [] and find(opened, '#empty').is_displayed()
    find(opened, '#all').click()
    Select(find(opened, '[name=benchmark]')).select_by_value('other_lt')
    assert methods(opened) == ['erm']
    assert 'Showing 1 of 6 rows' in find(opened, '#count').text


def test_seeds_of_a_number(opened):
    from selenium.webdriver import ActionChains, Keys

    cell = find(opened, 'tr[data-row="0"] td:nth-child(3)')
    ActionChains(opened).move_to_element(cell).perform()
    accuracies = [f'{100 * (HITS["erm"] + seed) / IMAGES:.2f}' for seed in (0, 1)]
    said = find(opened, '#tip').text.split()
    assert set(accuracies) <= set(said), said
    ActionChains(opened).move_to_element(find(opened, 'h1')).perform()
    find(opened, 'tr[data-row="0"] button').send_keys(Keys.ARROW_RIGHT, Keys.NULL)
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert opened.switch_to.active_element == cell
    assert cell.get_attribute('aria-describedby') == 'tip' and accuracies[1] in find(opened, '#tip').text
    cell.send_keys(Keys.ESCAPE)
    assert not find(opened, '#tip').is_displayed()


def test_open_a_run_and_close_it(opened, records):
    from selenium.webdriver import Keys

    find(opened, 'tr[data-row="0"] button').send_keys(Keys.ENTER)
    link = find(opened, 'tr.runs button')
    link.send_keys(Keys.ENTER)
    dialog = find(opened, 'dialog[open]')
    assert 'erm, seed 0' in dialog.text and records[0]['fingerprint'] in dialog.text
    assert len(dialog.find_elements('css selector', 'svg[role=img]')) == 4  # loss, accuracy, learning rate; classes
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not opened.find_elements('css selector', 'dialog[open]')
    assert opened.switch_to.active_element == link
    assert '#run=' not in opened.current_url


def test_an_address_opens_a_run(opened, records):
    address = opened.current_url + '#run=' + run_id(records[3])
    opened.get('about:blank')
    opened.get(address)
    assert 'low, seed 1' in find(opened, 'dialog[open]').text
    opened.get(address.partition('#')[0] + '#run=nothing')
    assert not opened.find_elements('css selector', 'dialog[open]')
    assert 'not on this page' in find(opened, '#said').get_attribute('textContent')


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


@pytest.mark.parametrize('width', [390, 1280])
def test_the_page_does_not_scroll_sideways(opened, width):
    size(opened, width)
    wide, visible = opened.execute_script('const r = document.documentElement; return [r.scrollWidth, r.clientWidth]')
    assert wide == visible <= width


def test_a_leaderboard_fits_a_laptop(opened):
    """With ± in every column, at 1280 pixels no table scrolls."""
    wide = (
        'return [...document.querySelectorAll("table.results")].map(t => t.scrollWidth - t.parentElement.clientWidth)'
    )
    assert max(opened.execute_script(wide)) <= 0


def test_it_prints(opened, tmp_path: Path):
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print'})
    try:
        assert not find(opened, '#filters').is_displayed()
        assert find(opened, 'table.results').is_displayed()
        inside = (
            'const t = document.querySelector("table.results"); return t.scrollWidth <= t.parentElement.clientWidth'
        )
        assert opened.execute_script(inside)
    finally:
        opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': ''})
