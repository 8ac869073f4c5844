"""
The page that chat.py serves, in a real browser, of a tiny random model.

$ python -m pytest tests/test_chat_page.py
"""
import pytest

pytest.importorskip('openai', reason="needs the package openai, the official client")
from test_talk_server import model, served  # noqa: E402, F401

SCRIPT = '<script>document.title = "run"</script> la luna'


@pytest.fixture
def talk(browser, model, tmp_path):  # noqa: F811
    """-> say(words), the page; at the end no error, and no request to anywhere else."""
    errors = []
    with served(model, tmp_path) as (port, _):
        page, address = browser.new_page(), f'http://127.0.0.1:{port}/'
        page.on('console', lambda message: errors.append(message.text))
        page.on('pageerror', lambda error: errors.append(str(error)))
        own = address, 'blob:'
        page.on('request', lambda request: request.url.startswith(own) or errors.append(request.url))
        page.goto(address)

        def say(words):
            """-> what is told beside the reply."""
            page.fill('#words', words)
            page.press('#words', 'Enter')
            page.get_by_role('button', name='Send', exact=True).wait_for()
            page.wait_for_function('writing === null')
            return page.inner_text('#recalled')
        yield say, page
        page.close()
    assert errors == []


def test_beside_each_reply_stands_what_it_drew_on_or_why_on_nothing(talk):
    say, page = talk
    empty = 'nothing was recalled: the memory is empty'
    seen = 'nothing was recalled: text 0 stood in the context'
    assert say('il gatto') == empty
    assert say(SCRIPT).startswith(seen)
    assert not page.is_visible('#trace')
    told = say('il tetto')
    assert told.startswith('il gatto') and 'text 0, said 20' in told and 'votes' in told
    assert SCRIPT in say('la luna guarda') and page.title() != 'run'
    replies = page.locator('.reply')
    for n, beginning in ((0, empty), (1, seen), (2, 'il gatto')):
        replies.nth(n).click()
        assert page.inner_text('#recalled').startswith(beginning)
        assert replies.nth(n).get_attribute('aria-pressed') == 'true'


def test_the_last_reply_opens_token_by_token_in_a_tab_of_its_own(talk):
    say, page = talk
    for words in ('il gatto', 'la luna', 'il tetto'):
        say(words)
    with page.expect_popup() as opened:
        page.click('#trace')
    trace = opened.value
    trace.wait_for_selector('#written > span')
    assert trace.locator('#written > span').count() > 1 and 'il gatto' in trace.inner_text('body')
    trace.close()


def test_a_talk_that_is_longer_than_a_request_may_be_goes_on(talk):
    say, page = talk
    say('il gatto')
    for turns, size in ((6000, 1), (300, 9000)):
        page.evaluate(f"messages = Array.from({{length: {2 * turns}}}, (_, n) => "
                      f"({{role: n % 2 ? 'assistant' : 'user', content: '\u732b'.repeat({size})}}))")
        say('la luna')
        assert page.locator('.error').count() == 0
