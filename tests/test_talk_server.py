"""
python chat.py --serve: a real server on a free port, a tiny random model, OpenAI's own client.

$ python -m pytest tests/test_talk_server.py
"""
import contextlib
import dataclasses
import http.client
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from starlette.testclient import TestClient
from test_talk import STYLE, begin, plain

from load import load_model
from talk import server
from talk.server import Limits, Serving, app_of
from talk.talk import Talk

openai = pytest.importorskip('openai', reason="needs the package openai, the official client")
FUZZED = 200  # requests
GREEDY = dataclasses.replace(STYLE, max_new_tokens=8)


@pytest.fixture(scope='module')
def model(instruct):
    return load_model(instruct)


@contextlib.contextmanager
def served(model, folder, style=GREEDY, **limits):
    """-> (port, Serving)."""
    serving = Serving(lambda session, style: begin(model, folder / session, style), 'tiny', 'chat', style,
                      model[0].config.block_size, Limits(**limits))
    with server.listening('127.0.0.1', 0) as listener, server.closing(serving):
        running = uvicorn.Server(uvicorn.Config(app_of(serving, '127.0.0.1'), log_level='critical',
                                                lifespan='off', timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={'sockets': [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1], serving
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture
def here(model, tmp_path):
    with served(model, tmp_path) as (port, serving):
        yield port, serving


def client_of(port, key='none'):
    return openai.OpenAI(base_url=f'http://127.0.0.1:{port}/v1', api_key=key, max_retries=0)


def user(words):
    return [{'role': 'user', 'content': words}]


def post(port, body, path='/v1/chat/completions', **headers):
    """-> the status, and the JSON of the answer."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    headers = {'Content-Type': 'application/json', **{k.replace('_', '-'): v for k, v in headers.items()}}
    connection.request('POST', path, body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def chat(port, **body):
    return post(port, json.dumps({'model': 'tiny', 'messages': user('il gatto'), **body}))


# ---- what clients speak ----

def test_openais_client_gets_the_talks_replies_streamed_and_not(here, model):
    client = client_of(here[0])
    assert [one.id for one in client.models.list()] == ['tiny']
    whole = client.chat.completions.create(model='tiny', messages=user('il gatto'), user='a', temperature=0)
    assert whole.choices[0].message.content == plain(model, 'il gatto')
    assert whole.usage.completion_tokens >= 1 and whole.choices[0].finish_reason in ('stop', 'length')
    chunks = list(client.chat.completions.create(model='tiny', messages=user('il gatto'), user='b',
                                                 temperature=0, stream=True,
                                                 stream_options={'include_usage': True}))
    assert ''.join(chunk.choices[0].delta.content or '' for chunk in chunks[:-1]) == plain(model, 'il gatto')
    assert chunks[0].choices[0].delta.role == 'assistant' and len(chunks) > 4
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_temperature_and_seed_are_the_requests_and_the_servers_where_it_names_none(model, tmp_path):
    style = dataclasses.replace(GREEDY, temperature=1.5, top_k=0)
    with served(model, tmp_path, style) as (port, _):
        def says(n, **asked):
            return chat(port, user=f'a{n}', **asked)[1]['choices'][0]['message']['content']

        def drawn(**changed):
            return begin(model, style=dataclasses.replace(style, **changed)).reply('il gatto').text
        assert says(1, temperature=0) == plain(model, 'il gatto') != says(2)
        assert says(3) == drawn() and says(4, seed=5) == drawn(seed=5) != drawn()
        assert says(5, temperature=0.4, seed=7) == drawn(temperature=0.4, seed=7) != drawn(seed=7)
        assert says(6, max_tokens=3) == drawn(max_new_tokens=3) != drawn()


def test_a_session_that_was_let_go_goes_on_from_the_disk(model, tmp_path):
    with served(model, tmp_path, open_sessions=1) as (port, serving):
        for session in 'ab':
            assert chat(port, user=session, messages=user('la luna guarda'))[0] == 200
        assert list(serving.talks) == list(serving.last) == ['b']
        _, answer = chat(port, user='a')
        assert [text['text'] for text in answer['memory']] == ['la luna guarda']


def test_what_was_said_is_recalled_in_its_session_alone_and_told_beside_the_reply(here):
    port, _ = here
    for session, words in (('a', 'la luna'), ('a', 'il tetto'), ('b', 'il gatto')):
        assert chat(port, user=session, messages=user(words))[0] == 200
    for session, said in (('a', {'la luna', 'il tetto'}), ('b', {'il gatto'})):
        _, answer = chat(port, user=session)
        assert {text['text'] for text in answer['memory']} <= said and answer['memory']
        assert answer['memory'][0]['source'].startswith('said ')


def test_a_clients_own_exchanges_stand_before_its_words_and_its_system_turn_is_the_sessions(here, model):
    port, serving = here
    system = {'role': 'system', 'content': 'la luna guarda'}
    before = [*user('la luna'), {'role': 'assistant', 'content': 'il tetto'}]
    _, answer = chat(port, messages=[*before, *user('il gatto')], temperature=0)
    assert answer['choices'][0]['message']['content'] == plain(model, 'il gatto', [('la luna', 'il tetto')])
    assert chat(port, user='s', messages=[system, *user('il gatto')])[0] == 200
    assert chat(port, user='s', messages=[system, *user('il gatto')])[0] == 200
    status, answer = chat(port, user='s')
    assert status == 400 and 'another header' in answer['error']['message']
    serving.talks.clear()  # as after a restart
    assert chat(port, user='s', messages=[system, *user('il gatto')])[0] == 200


def test_the_page_is_one_file_that_asks_nobody_else(here):
    connection = http.client.HTTPConnection('127.0.0.1', here[0])
    connection.request('GET', '/')
    answer = connection.getresponse()
    page = answer.read().decode()
    assert answer.status == 200 and "default-src 'none'" in answer.headers['Content-Security-Policy']
    assert 'http' not in page and 'innerHTML' not in page and 'src=' not in page


def test_a_page_that_opens_a_session_is_shown_its_last_exchanges(here):
    port, _ = here
    _, answer = chat(port, user='a')
    connection = http.client.HTTPConnection('127.0.0.1', port)
    connection.request('GET', '/v1/sessions/a')
    told = json.loads(connection.getresponse().read())
    assert told == {'exchanges': [['il gatto', answer['choices'][0]['message']['content']]], 'texts': 1}


def test_who_only_looks_at_a_session_leaves_no_folder_of_it(here, tmp_path):
    for what in ('', '/why', '/page'):
        connection = http.client.HTTPConnection('127.0.0.1', here[0])
        connection.request('GET', f'/v1/sessions/a{what}')
        assert connection.getresponse().status == (400 if what else 200)
    assert list(tmp_path.iterdir()) == []
    assert chat(here[0], user='a')[0] == 200 and (tmp_path / 'a' / 'manifest.txt').exists()


def test_the_last_reply_of_a_session_is_shown_token_by_token(here):
    port, _ = here

    def page():
        connection = http.client.HTTPConnection('127.0.0.1', port)
        connection.request('GET', '/v1/sessions/a/page')
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    assert page()[0] == 400 and 'say something' in page()[1]
    chat(port, user='a', messages=user('la luna guarda'))
    assert page()[0] == 400 and 'drew on no remembered' in page()[1]
    chat(port, user='a')
    assert page()[0] == 200 and '"source": "said 20' in page()[1].replace('":"', '": "')


def test_a_page_can_ask_why_the_last_reply_recalled_nothing(here):
    port, _ = here

    def why():
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
        connection.request('GET', '/v1/sessions/a/why')
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    assert why()[0] == 400 and 'say something' in why()[1]['error']['message']
    chat(port, messages=user('il gatto dorme'), user='a')
    assert why() == (200, {'why': 'nothing was recalled: the memory is empty'})


# ---- bounds ----

@pytest.mark.parametrize(('body', 'param', 'says'), [
    ({'model': 'gpt-4'}, 'model', "'tiny' is"), ({'user': '../x'}, 'user', 'names a memory'),
    ({'user': 'a' * 65}, 'user', 'names a memory'), ({'messages': []}, 'messages', 'no list of 1 to'),
    ({'messages': user(' ')}, 'messages', 'is empty'), ({'messages': user(7)}, 'messages', 'a text'),
    ({'messages': user('a') + user('b')}, 'messages', 'in turn'), ({'temperature': 3}, 'temperature', 'to 2'),
    ({'messages': [{'role': 'tool', 'content': 'x'}]}, 'messages', "the role 'tool'"),
    ({'max_tokens': 10**400}, 'max_tokens', 'expected a whole number from 1 to 256'),
    ({'max_tokens': True}, 'max_tokens', 'whole'), ({'n': 2}, 'n', 'not done here'),
    ({'tools': [{}]}, 'tools', 'not done here'), ({'stream': 'yes'}, 'stream', 'expected bool'),
    ({'max_tokens': 250}, None, 'say less'), ({'messages': user('\ud800')}, None, '')])
def test_what_is_asked_wrongly_is_a_4xx_with_one_clear_line_in_openais_shape(here, body, param, says):
    status, answer = chat(here[0], **body)
    error = answer['error']
    assert status == (404 if param == 'model' else 400) and error['type'].endswith('_error')
    assert error['param'] == param and says in error['message'] and '\n' not in error['message']


def test_bodies_that_are_too_long_or_no_json_and_other_kinds_are_refused(here):
    port, _ = here
    assert post(port, b'x' * (2**20 + 1))[0] == 413
    assert post(port, b'{')[0] == post(port, b'[' * 100_000)[0] == post(port, b'\xff')[0] == 400
    assert post(port, b'{}', Content_Type='text/plain')[0] == 415
    assert post(port, b'{}', path='/v1/nothing')[0] == 404
    assert post(port, b'{}', path='/v1/models')[0] == 405


def test_a_disk_that_takes_no_more_is_told_and_nothing_breaks(here, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(Talk, 'save', lambda talk: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        status, answer = chat(here[0])
    assert status == 507 and 'the memory could not be written: ' in answer['error']['message']
    assert chat(here[0])[0] == 200
    until(lambda: here[1].taken == 0)


def test_another_name_for_this_address_is_refused(here):
    connection = http.client.HTTPConnection('127.0.0.1', here[0])
    connection.request('GET', '/v1/models', headers={'Host': 'evil.example'})
    assert connection.getresponse().status == 400
    for address, status in (('127.0.0.1', 400), ('0.0.0.0', 200)):  # where others reach it, by any name
        client = TestClient(app_of(here[1], address), base_url='http://evil.example')
        assert client.get('/v1/models').status_code == status


def test_malformed_requests_are_answered_by_no_5xx_and_make_no_files(here, tmp_path):
    port, rng = here[0], random.Random(1)
    good = json.dumps({'model': 'tiny', 'messages': user('il gatto'), 'max_tokens': 1, 'user': 'fuzz'})
    odd = [None, True, -1, 1e308, 'x', '\ud800', '', [], {}, [[]], {'role': 'user'}, 2**70]
    statuses = []
    for _ in range(FUZZED):
        body = json.loads(good)
        for _ in range(rng.randrange(1, 3)):
            body[rng.choice(['model', 'messages', 'user', 'max_tokens', 'temperature', 'stream', 'n', 'stop',
                             'seed', 'stream_options', 'tools'])] = rng.choice(odd)
        data = bytearray(json.dumps(body).encode())
        if rng.random() < 0.5:
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
        connection.request('POST', '/v1/chat/completions', bytes(data), {'Content-Type': 'application/json'})
        statuses.append(connection.getresponse().status)
    assert max(statuses) < 500 and statuses.count(400) > FUZZED // 4
    for _ in range(FUZZED // 4):  # no HTTP at all
        with socket.create_connection(('127.0.0.1', port)) as raw:
            raw.sendall(rng.randbytes(100) + b'\r\n\r\n')
    assert chat(port)[0] == 200
    assert {path.name for path in tmp_path.iterdir()} <= {'fuzz', 'chat', 'x'}


def test_a_token_is_asked_for_where_one_is_given_and_wanted_where_others_reach_the_address(model, tmp_path):
    with served(model, tmp_path, token='secret') as (port, serving):
        with pytest.raises(openai.AuthenticationError):
            client_of(port, 'guess').models.list()
        assert len(client_of(port, 'secret').models.list().data) == 1
        assert chat(port)[0] == 401
        connection = http.client.HTTPConnection('127.0.0.1', port)
        connection.request('GET', '/')
        assert connection.getresponse().status == 200, 'the page, which asks for the token'
    with pytest.raises(ValueError, match='which others can reach: give a serve_token'):
        server.serve(Serving(None, 'tiny', 'chat', GREEDY, 8, Limits()), '0.0.0.0', 0)


# ---- many at once ----

@pytest.fixture
def slow(here, monkeypatch):
    """Each token of a reply waits for `go`; -> (port, Serving, go, tokens written)."""
    port, serving = here
    go, written = threading.Event(), []
    reply = server.Serving.write

    def write(self, asked, tell, is_gone):
        def tell_slowly(piece):
            written.append(piece)
            go.wait(20)
            tell(piece)
        return reply(self, asked, tell_slowly, is_gone)
    monkeypatch.setattr(server.Serving, 'write', write)
    yield port, serving, go, written
    go.set()


def until(true):
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize('streams', [True, False])
def test_a_client_that_goes_away_stops_the_writing_and_frees_its_place(slow, streams):
    port, serving, go, written = slow
    connection = http.client.HTTPConnection('127.0.0.1', port)
    body = json.dumps({'model': 'tiny', 'messages': user('il gatto'), 'user': 'a', 'stream': streams})
    connection.request('POST', '/v1/chat/completions', body, {'Content-Type': 'application/json'})
    until(lambda: written)
    connection.close() if connection.sock is None else connection.sock.close()
    time.sleep(0.7)  # the server looks twice a second
    go.set()
    until(lambda: serving.taken == 0)
    assert len(written) <= 2
    assert chat(port)[0] == 200


def test_who_goes_away_while_others_are_served_is_never_answered(slow):
    port, serving, go, written = slow
    talk_to = [threading.Thread(target=chat, args=(port,), kwargs={'user': name}) for name in 'ab']
    for one in talk_to:
        one.start()
    until(lambda: len(written) == 2)
    gone = http.client.HTTPConnection('127.0.0.1', port)
    gone.request('POST', '/v1/chat/completions', json.dumps({'messages': user('il gatto'), 'user': 'c'}),
                 {'Content-Type': 'application/json'})
    until(lambda: serving.taken == 3)
    gone.sock.close()
    time.sleep(0.7)
    go.set()
    until(lambda: serving.taken == 0)
    for one in talk_to:
        one.join()
    assert serving.talk('c', GREEDY).exchanges() == []
    assert len(serving.talk('a', GREEDY).exchanges()) == 1


def test_a_server_that_closes_ends_what_it_writes_and_remembers_it(slow):
    port, serving, go, written = slow
    asked = threading.Thread(target=chat, args=(port,), kwargs={'user': 'a'})
    asked.start()
    until(lambda: written)
    serving.closing.set()
    go.set()
    asked.join()
    assert len(written) == 1 and serving.last['a'].ended == 'stopped'
    assert [words for words, _ in serving.talk('a', GREEDY).exchanges()] == ['il gatto']


def test_the_queue_has_an_end(model, tmp_path, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(server.Serving, 'write', lambda *given: go.wait(20) and server.refuse('done'))
    with served(model, tmp_path, writers=1, waiting=2) as (port, serving), ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(chat, port) for _ in range(3)]
        until(lambda: serving.taken == 3)
        status, answer = chat(port)
        go.set()
        assert status == 429 and answer['error']['type'] == 'rate_limit_error'
        assert [one.result()[0] for one in asked] == [400] * 3
        until(lambda: serving.taken == 0)


def test_two_requests_of_one_session_are_answered_one_after_the_other(here, monkeypatch):
    port, at_once, most, reply = here[0], [], [], Talk.reply

    def watched(*given, **more):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.05)
        try:
            return reply(*given, **more)
        finally:
            at_once.pop()
    monkeypatch.setattr(Talk, 'reply', watched)
    with ThreadPoolExecutor(4) as clients:
        assert {one.result()[0] for one in [clients.submit(chat, port) for _ in range(4)]} == {200}
    assert most == [1] * 4


def talk_of(port, name, turns):
    """A client's talk, its own exchanges sent along -> the replies."""
    messages, replies = [], []
    for n in range(turns):
        messages += user(f'il gatto {name} {n}')
        status, answer = chat(port, user=f'client{name}', messages=messages)
        replies.append(answer['choices'][0]['message']['content'] if status == 200 else answer)
        messages.append({'role': 'assistant', 'content': replies[-1]})
    return replies


def test_eight_clients_at_once_get_what_each_gets_alone(here, model):
    port, _ = here
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda name: talk_of(port, name, 3), range(8)))
    for name, replies in enumerate(found):
        alone, said = begin(model, style=GREEDY), []
        for n, reply in enumerate(replies):
            words = f'il gatto {name} {n}'
            assert alone.reply(words, said).text == reply
            alone.remember_exchange(words, reply)
            said.append((words, reply))
