"""
The trace as a file and as a page: its schema and its escaping, and the page itself in a real browser.

$ python -m pytest tests/test_page.py
"""
import json
import os
import re

import pytest
from conftest import ROOT
from test_recall import HEADS
from test_trace import PICKS, TEXTS, Words, written

from page.files import page_of
from page.trace import trace_of

READ = ('--memory_text=Cats are good. Dogs are bad.', '--memory_layers=0,2', '--memory_method=3',
        '--memory_fraction=5', '--softmax_scale=1', '--start=Cats are', '--max_new_tokens=4',
        '--num_samples=2', '--seeds=7,8')
HOSTILE = '</script><script>window.hit = 1</script><img src=x onerror="window.hit = 2"><!--<script>/*JS*/'


class Hostile(Words):

    def decode(self, ids):
        return ''.join(f'W{i}{HOSTILE}. ' for i in ids)


def traced(settings, family='llama', tokenizer=None):
    model, row, told = written(family, settings)
    return {**trace_of(model, tokenizer or Words(), row, *told), 'seed': 7, 'plain': 'W1 W2'}


@pytest.fixture(scope='module')
def recalled():
    """Of method 5: two of three texts are recalled."""
    return traced({'method': 5, 'index_heads': HEADS, 'recall_texts': 2})


# ---- files ----

def test_the_fields_are_those_that_the_readme_tells(recalled):
    with open(os.path.join(ROOT, 'page', 'README.md')) as f:
        rows = re.findall(r'^\| (`.*?) \| (.*) \|$', f.read(), re.MULTILINE)
    told = {name for cell, _ in rows for name in re.findall(r'`(\w+)`', cell)}
    assert told == recalled.keys()
    about = {cell: set(re.findall(r'`(\w+)`', text)) for cell, text in rows}
    picks = traced({'method': 3, 'select': 'each', **PICKS})
    for trace in (recalled, picks):
        assert trace['written'][0].keys() == about['`written`']
        assert trace['texts'][0].keys() <= about['`texts`']
        assert trace['check'].keys() == about['`check`']
    assert recalled['recalls'][0].keys() <= about['`recalls`']
    assert {*recalled['recalls'][0]['votes'][0]} <= about['`recalls`']
    assert {*recalled['written'][0]['draws'][0]} == about['`written[].draws`']
    assert picks['look_ups'][0].keys() == about['`look_ups`']
    assert json.loads(json.dumps(recalled)) == json.loads(json.dumps(recalled, allow_nan=False))


def data_in(page):
    return json.loads(page.partition('id="trace">')[2].partition('</script>')[0])


def test_a_page_holds_the_trace_and_nothing_of_a_text_is_part_of_the_page():
    trace = traced({'method': 4, 'softmax_scale': 1.0}, tokenizer=Hostile())
    trace |= {'plain': HOSTILE, 'model': HOSTILE + '\udc80'}  # as a file's name can hold
    page = page_of(trace)
    assert data_in(page) == json.loads(json.dumps(trace))
    assert page.count('<script') == page.count('</script>') == 2
    own, _, behind = page.partition('id="trace">')
    own += behind.partition('</script>')[2]
    assert '/*' not in own
    assert not re.search(r'(src|href)=|https?:|@import|url\(|[inout]+erHTML|insertAdjacent|\.write\(|eval\(',
                         own)


def test_sample_writes_page_and_trace_of_its_first_sample_and_names_the_page_last(run, tmp_path):
    files = f'--page={tmp_path}/new/page.html', f'--trace_file={tmp_path}/trace.json'
    code, out, err = run('sample.py', *READ, *files)
    assert (code, err) == (0, '')
    assert out.splitlines()[-2:] == [f'trace   {tmp_path}/trace.json', f'page    {tmp_path}/new/page.html']
    with open(tmp_path / 'trace.json') as f, open(tmp_path / 'new' / 'page.html') as g:
        trace = json.load(f)
        assert data_in(g.read()) == trace
    shown = dict(re.findall(r'seed (\d)\n *plain +(.*(?:\n {10}.*)*)', out))
    assert trace['seed'] == 7
    assert ' '.join(f'Cats are{trace["plain"]}'.split()) == ' '.join(shown['7'].split())
    remembered = re.search(r'seed 7\n(?:.*\n)*? *memory +(.*(?:\n {10}.*)*)', out)[1]
    text = ''.join([*trace['prompt'], *(token['text'] for token in trace['written'])])
    assert ' '.join(text.split()) == ' '.join(remembered.split())
    _, again, _ = run('sample.py', *READ, *files)
    assert again.splitlines()[-1].endswith('page.html (in place of an older one)')


@pytest.mark.parametrize('arguments,told', [
    (['--page=page.html'], "page is 'page.html', but there is no memory: give memory_file or memory_text"),
    ([*READ, '--page=.'], "page is '.', a folder: name a file in it"),
    ([*READ, '--trace_file=new/'], "trace_file is 'new/', a folder: name a file in it")])
def test_what_no_page_can_be_written_to_is_said_before_the_model_is_loaded(run, arguments, told):
    assert run('sample.py', *arguments, init_from='not there') == (1, '', f'error: {told}\n')


# ---- in a browser ----

@pytest.fixture
def shown(browser, tmp_path):
    """shown(trace, **how) -> the page of a trace, open; at the end no error and no request but for itself."""
    pages, errors = [], []

    def shown(trace, **how):
        path = tmp_path / 'page.html'
        path.write_text(page_of(trace))
        page = browser.new_page(**how)
        pages.append(page)
        page.on('console', lambda message: errors.append(message.text))
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('request', lambda request: request.url == path.as_uri() or errors.append(request.url))
        page.goto(path.as_uri())
        return page
    yield shown
    for page in pages:
        page.close()
    assert errors == []


def words(page, selector):
    return ' '.join(page.inner_text(selector).split())


def texts_of(page, selector):
    return page.locator(selector).all_inner_texts()


def shades(page):
    """Of the written tokens, 0 to 1."""
    return page.eval_on_selector_all('#written > span',
                                     'all => all.map(one => Number(one.style.getPropertyValue("--s")))')


def best_sentence(trace, i, number):
    """-> (how much less likely without it, its first row, its end), by the trace's own numbers."""
    check = trace['check']
    [sentences] = [text['sentences'] for text in trace['texts'] if text['number'] == number]
    return max((check['memory'][i] - without[i], first, end)
               for (text, first, end), without in zip(check['hidden'], check['without'])
               if text == number and (first, end) in map(tuple, sentences))


def test_a_click_on_a_token_opens_what_it_drew_on_with_the_numbers_of_the_trace(shown, recalled):
    page, i = shown(recalled), 2
    page.click(f'#t{i}')
    assert page.get_attribute(f'#t{i}', 'aria-selected') == 'true'
    assert page.locator('#written [aria-selected=true]').count() == 1
    assert words(page, '#token-title').endswith('token 3 of 4')
    token, check = recalled['written'][i], recalled['check']
    told = [float(text.replace('−', '-')) for text in texts_of(page, '#check tbody td:last-child')]
    least = min(without[i] for without in check['without'])
    assert told == pytest.approx([check['memory'][i], least, check['plain'][i]], abs=0.006)
    for at, draw in enumerate(token['draws']):
        [text] = [text for text in recalled['texts'] if text['number'] == draw['text']]
        article = page.locator('article').nth(at)
        drop, first, end = best_sentence(recalled, i, draw['text'])
        if drop > 0:
            marked = ''.join(text['tokens'][first:end])
            assert article.locator('mark').inner_text().strip() == marked.strip()
            assert marked.strip() in article.locator('.citation').inner_text()
        page.check('input[value=all]')
        row, weight = max(zip(draw['rows'], draw['weights']), key=lambda pair: pair[1])
        title = article.locator('.row').nth(row).get_attribute('title')
        assert float(title.partition(' ')[0]) == pytest.approx(100 * weight, rel=0.05)
    cell = page.locator('#map i').nth(recalled['heads'] + 1).get_attribute('title')
    assert cell.startswith(f"layer {recalled['layers'][1]}, head 1: ")
    assert float(re.search(r': ([\d.]+) %', cell)[1]) == pytest.approx(100 * token['map'][1][1], rel=0.05)
    votes = [float(text) for text in texts_of(page, '#votes tbody td:last-child')]
    assert votes == pytest.approx([vote['votes'] for vote in recalled['recalls'][0]['votes']], abs=0.06)
    assert page.locator('#votes strong').count() == 2
    assert not page.is_visible('#picks')


def test_arrow_keys_go_from_token_to_token_and_the_choice_is_told_to_screen_readers(shown, recalled):
    page = shown(recalled)
    page.focus('#written')
    page.keyboard.press('Home')
    for key, token in (('ArrowRight', 1), ('End', 3), ('ArrowRight', 3), ('ArrowLeft', 2), ('PageUp', 0),
                       ('PageDown', 3), ('Home', 0), ('ArrowDown', 1), ('ArrowUp', 0), ('ArrowRight', 1)):
        page.keyboard.press(key)
        assert page.get_attribute('#written', 'aria-activedescendant') == f't{token}'
    assert 'of attention to the memory' in words(page, '#status')
    assert page.get_by_role('listbox', name='Written tokens').count() == 1
    assert page.get_by_role('option').count() == 4
    assert page.get_by_role('img', name='3 layers by 4 heads').count() == 1
    for name in ('what the memory changed', 'attention to the memory', 'all attention'):
        assert page.get_by_role('radio', name=name).count() == 1


def test_tokens_are_shaded_by_what_is_chosen(shown, recalled):
    page = shown(recalled)
    page.check('input[value=share]')
    shares = [token['share'] for token in recalled['written']]
    assert shades(page) == pytest.approx([share / max(shares) for share in shares], abs=0.002)
    page.check('input[value=gain]')
    check = recalled['check']
    gains = [max(0, own - plain) for own, plain in zip(check['memory'], check['plain'])]
    assert shades(page) == pytest.approx([gain / max(1, *gains) for gain in gains], abs=0.002)
    colours = page.eval_on_selector_all('#written > span',
                                        'all => all.map(one => getComputedStyle(one).backgroundColor)')
    alphas = [float(re.findall(r'[\d.]+', colour)[-1]) for colour in colours]
    assert alphas == pytest.approx([0.62 * shade for shade in shades(page)], abs=0.01)


def test_words_are_shaded_by_what_is_above_what_any_token_gives_them_or_by_all(shown, recalled):
    page, i = shown(recalled), 1
    page.click(f'#t{i}')
    draw = recalled['written'][i]['draws'][0]
    [text] = [text for text in recalled['texts'] if text['number'] == draw['text']]
    above = [0.0] * len(text['tokens'])
    for row, weight in zip(draw['rows'], draw['weights']):
        above[row] = max(0.0, weight - text['usual'][row])
    assert max(above) > 0
    article = page.locator('article').first
    for row, weight in enumerate(above):
        title = article.locator('.row').nth(row).get_attribute('title')
        assert bool(title) == (weight > 0)
        if title and not title.startswith('<'):
            assert float(title.partition(' ')[0]) == pytest.approx(100 * weight, rel=0.06)
    drop, first, end = best_sentence(recalled, i, draw['text'])
    said = re.search(r'([\d.]+) % of the shading', article.locator('.citation').inner_text())
    if drop > 0:
        assert float(said[1]) == pytest.approx(100 * sum(above[first:end]) / sum(above), rel=0.06)


def test_each_recall_is_shown_from_its_token_on_with_the_lead_of_the_least_recalled(shown, recalled):
    [one] = recalled['recalls']
    assert len(one['votes']) == 3 and len(one['recalled']) == 2
    later = {**one, 'step': 2, 'recalled': one['recalled'][:1]}
    page = shown({**recalled, 'recalls': [one, later]})
    for token, recall in ((1, one), (2, later), (3, later), (0, one)):
        page.click(f'#t{token}')
        n, votes = len(recall['recalled']), [vote['votes'] for vote in recall['votes']]
        lead = (votes[n - 1] - votes[n]) / recall['voters']
        told = words(page, '#votes-about')
        assert told.startswith(f"After {recall['step']} written tokens, by {recall['voters']} token-heads")
        assert float(re.search(r'is (\S+) above the next', told)[1]) == pytest.approx(lead, abs=0.006)


def test_the_verdict_names_a_sentence_only_where_it_alone_accounts_for_the_text(shown, recalled):
    text, n = recalled['texts'][0], len(recalled['written'])
    first, second = text['sentences'][:2]
    check = {'memory': [-1.0] * n, 'plain': [-3.0] * n,
             'hidden': [[text['number'], *first], [text['number'], *second]]}
    for drops, told in (((1.5, 0.1), 'One sentence matters most'), ((1.5, 1.4), 'no one sentence accounts'),
                        ((0.4, 0.1), 'no one sentence accounts')):
        page = shown({**recalled, 'check': {**check, 'without': [[-1.0 - drop] * n for drop in drops]}})
        assert told in words(page, '#verdict')
        named = ''.join(text['tokens'][slice(*first)]).strip()
        assert (named in page.inner_text('#verdict')) == told.startswith('One')


def test_by_methods_1_to_3_the_table_lists_what_was_picked_and_found(shown):
    trace = traced({'method': 3, 'select': 'each', **PICKS})
    page = shown(trace)
    page.click('#t1')
    at, attention = max(trace['written'][1]['picks'], key=lambda pick: pick[1])
    one = trace['look_ups'][at]
    cells = page.locator('#picks tbody tr').first.locator('td').all_inner_texts()
    assert cells[:2] + cells[3:4] == [str(one['layer']), str(one['head']), f'{attention:.4f}']
    shares = sorted(one['shares'], reverse=True)
    assert [float(share) for share in cells[6].split()] == pytest.approx(shares, abs=6e-4)
    best = one['rows'][one['shares'].index(shares[0])]
    tokens = [token for text in trace['texts'] for token in text['tokens']]
    assert cells[4].startswith(json.dumps(tokens[best]))
    assert not page.is_visible('#votes')


def test_no_script_of_a_text_runs(shown):
    trace = traced({'method': 5, 'index_heads': HEADS}, tokenizer=Hostile())
    page = shown(trace | {'plain': HOSTILE, 'model': HOSTILE})
    page.click('#t3')
    assert page.evaluate('window.hit') is None
    assert page.locator('img, script:not([id]):not(:last-of-type)').count() == 0
    assert HOSTILE in page.inner_text('#texts')
    assert HOSTILE in page.inner_text('#plain')


def test_a_text_that_drew_nothing_says_so(shown):
    trace = traced({'method': 5, 'index_heads': HEADS, 'recall_threshold': 1000.0})
    page = shown(trace)
    assert words(page, '#verdict') == 'Nothing was drawn from the memory: this is the plain model’s text.'
    assert 'nothing was recalled' in words(page, '#votes-about')
    assert page.locator('article').count() == 0


def test_light_and_dark_follow_the_system_and_the_button(shown, recalled):
    page = shown(recalled, color_scheme='dark')

    def paper():
        colour = page.evaluate('getComputedStyle(document.body).backgroundColor')
        return sum(map(int, re.findall(r'\d+', colour)[:3]))

    assert paper() < 150
    page.click('#theme')
    assert paper() > 600
    page.emulate_media(color_scheme='light')
    page.click('#theme')
    assert paper() < 150


@pytest.mark.parametrize('width', (320, 1300))
def test_nothing_is_wider_than_the_screen(shown, width):
    trace = traced({'method': 3, 'select': 'each', **PICKS})
    trace['texts'][0]['source'] = 'FILE:' + 'a/long/name' * 20
    page = shown(trace, viewport={'width': width, 'height': 700})
    assert page.evaluate('document.documentElement.scrollWidth') <= width


def test_ten_thousand_tokens_and_a_thousand_texts_are_shown_as_they_are_looked_at(shown, recalled):
    text, n = recalled['texts'][0], 10_000
    draws = [{**recalled['written'][0]['draws'][0], 'text': number} for number in range(1000)]
    token = {**recalled['written'][0], 'draws': draws}
    check = {'memory': [-1.0] * n, 'plain': [-2.0] * n, 'hidden': [[3, *text['sentences'][0]]],
             'without': [[-1.5] * n]}
    page = shown({**recalled, 'written': [{**token, 'draws': draws if i == n - 1 else []} for i in range(n)],
                  'check': check, 'texts': [{**text, 'number': number} for number in range(1000)]})
    assert page.get_by_role('option').count() == n
    page.focus('#written')
    page.keyboard.press('End')
    assert words(page, '#token-title').endswith('token 10000 of 10000')
    assert page.locator('article').count() == 3
    page.click('#more-texts')
    assert page.locator('article').count() == 6
    assert words(page, '#more-texts') == '994 more texts that got less'


def test_the_texts_of_this_file_have_sentences_of_their_own(recalled):
    assert len(recalled['texts']) == 2
    assert all(len(text['sentences']) > 1 for text in recalled['texts'])
    assert {len(text['tokens']) for text in recalled['texts']} <= set(map(len, TEXTS))
