"""
What is typed in a talk, in a terminal or through a pipe: words, commands, and what cannot be.

$ python -m pytest tests/test_talk_commands.py
"""
import dataclasses
import io
import math
import os
import re
import runpy
import shutil
from types import SimpleNamespace

import pytest
from conftest import ROOT
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from test_rotary import tiny_family
from test_talk import STYLE, begin, plain

from load import load_model
from talk.commands import Commands
from talk.talk import open_memory
from talk.terminal import prompt_of, talk_in_terminal, talk_through_pipe


@pytest.fixture(scope='module')
def model(instruct):
    return load_model(instruct)


# ---- commands ----

def test_commands_do_what_their_help_says(model, tmp_path):
    talk = begin(model, tmp_path / 'mine')
    commands = Commands(talk)
    assert set(commands.known) == {line.split()[0] for line in commands.run('/help').splitlines()}
    assert commands.run('/list') == 'the memory is empty'
    assert commands.run('/remember la luna guarda') == 'remembered 1 text'
    (tmp_path / 'cats.txt').write_text('il tetto')
    assert commands.run(f"/remember {tmp_path / 'cats.txt'}") == 'remembered 1 text'
    assert commands.run(f"/remember FILE:{tmp_path / 'cats.txt'}") == 'remembered 1 text'
    commands.last = talk.exchange('gatto')
    assert len(commands.run('/list').splitlines()) == 4
    number = commands.last.drew_on()[0][0]
    assert commands.run('/why').split()[0] == str(number) and 'votes' in commands.run('/why')
    assert commands.run('/plain') == plain(model, 'gatto')
    assert commands.run('/forget 0') == 'forgotten 1 text'
    assert commands.run(f"/forget {tmp_path / 'cats.txt'}") == 'forgotten 2 texts'
    assert len(commands.run('/list').splitlines()) == 1


def test_why_says_why_nothing_was_recalled_in_one_line(model):
    commands = Commands(begin(model, recall_threshold=1e5))

    def why_after(words):
        commands.last = commands.talk.exchange(words)
        return commands.run('/why')
    assert why_after('dove dorme il gatto?') == 'nothing was recalled: the memory is empty'
    assert why_after('la luna') == 'nothing was recalled: what is remembered only asks'
    seen = "nothing was recalled: text {} stood in the context already, before the model's eyes"
    assert why_after('il tetto') == seen.format(1)
    assert re.fullmatch(seen.format(2) + r'; the evidence, -?\d+\.\d\d, is below recall_threshold, 100000, '
                        r'for the best text, 1 said 20[^\n]*: la luna', why_after('il gatto'))


def test_the_evidence_that_why_tells_is_what_the_threshold_is_compared_with(model):
    talk = begin(model, recall_threshold=1e5, style=dataclasses.replace(STYLE, context_turns=0))
    for text in ('la luna guarda', 'il tetto', 'il gatto'):
        talk.remember(text, 'notes')
    commands = Commands(talk)
    commands.last = talk.reply('guarda la luna')
    best, evidence = talk.evidence(commands.last)
    assert evidence > 0.01
    for least in (evidence - 0.005, evidence + 0.005):
        talk.reading = dataclasses.replace(talk.reading, recall_threshold=least)
        commands.last = talk.reply('guarda la luna')
        assert [number for number, *_ in commands.last.drew_on()] == [best] * (least < evidence)
        told = commands.run('/why').splitlines()
        shown = f'{evidence:.2f}' if least < evidence else f'{math.floor(100 * evidence) / 100:.2f}'
        assert shown in told[-1] and f'{least:g}' in told[-1]
        assert talk.memory.texts[best]['text'] in told[0]


def test_why_names_no_forgotten_text_and_no_evidence_that_would_have_been_enough(model):
    commands = Commands(begin(model))
    commands.run('/remember la luna guarda')
    reply = commands.talk.exchange('guarda la luna')
    commands.last = dataclasses.replace(reply, recalled=[])  # as Ctrl-C does
    assert commands.run('/why') == 'nothing was recalled: it was stopped before'
    commands = Commands(begin(model, recall_threshold=1e5))
    for shown in ('0, 1', '1, 3, 4'):  # 2 is the cat, 0 is forgotten by then
        for words in ('la luna', 'la luna', 'il gatto'):
            commands.last = commands.talk.exchange(words)
        assert commands.run('/why').startswith(f'nothing was recalled: text {shown} stood in the context')
        commands.talk.memory.forget({0} - commands.talk.memory.forgotten)


def test_the_page_of_a_reply_shows_what_it_drew_on_then_whatever_was_said_since(model, tmp_path):
    commands, path = Commands(begin(model)), tmp_path / 'page.html'
    with pytest.raises(ValueError, match='after a reply'):
        commands.run(f'/page {path}')
    commands.last = commands.talk.exchange('la luna guarda')
    with pytest.raises(ValueError, match='drew on no remembered text'):
        commands.run(f'/page {path}')
    commands.talk.exchange('il tetto')
    commands.last = commands.talk.exchange('il gatto')
    told = commands.talk.trace(commands.last)
    commands.run('/remember la luna')
    commands.run('/plain')
    assert commands.talk.trace(commands.last) == told and path.exists() is False
    assert commands.run(f'/page {path}') == f'written {path}'
    assert told['texts'][0]['source'] in path.read_text() and told['texts'][0]['source'].startswith('said ')


def test_a_memory_is_saved_once_more_and_never_over_another(model, tmp_path):
    commands = Commands(begin(model, tmp_path / 'mine'))
    commands.run('/remember la luna')
    for name in ('copy', 'copy.safetensors'):
        assert commands.run(f'/save {tmp_path / name}').startswith('saved')
        with pytest.raises(FileExistsError, match=f'{name} is there already: name another'):
            commands.run(f'/save {tmp_path / name}')
    commands.run('/remember il tetto')
    assert len(open_memory(str(tmp_path / 'copy'), *model, ()).held.live_texts) == 1
    assert len(open_memory(str(tmp_path / 'mine'), *model, ()).held.live_texts) == 2


def test_a_path_behind_a_command_may_begin_at_home(model, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'cats.txt').write_text('il tetto')
    commands = Commands(begin(model))
    commands.run('/remember ~/cats.txt')
    assert commands.talk.memory.texts[0]['text'] == 'il tetto'
    commands.last = commands.talk.exchange('gatto')
    commands.run('/page ~/why.html')
    commands.run('/save ~/copy')
    assert {path.name for path in tmp_path.iterdir()} == {'cats.txt', 'why.html', 'copy'}


@pytest.mark.parametrize(('line', 'message'), [
    ('/sing', 'no command /sing: /help lists them'), ('/', 'no command /: /help lists them'),
    ('/forgot 0', 'no command /forgot, did you mean /forget'), ('/List', 'did you mean /list'),
    ('/forget 7', 'text 7 does not exist: there are no texts'), ('/forget', 'forget what'),
    ('/forget nobody', "no text is from 'nobody'"), ('/forget -1', "no text is from '-1'"),
    ('/forget 1.5', "no text is from '1.5'"), ('/remember', 'remember what'),
    ('/remember FILE:', "no file ''"), ('/remember FILE:no.txt', "no file 'no.txt'"),
    ('/remember FILE:*.none', "no file '*.none'"), ('/remember \udcff', 'not UTF-8'),
    ('/save', '/save PATH'), ('/plain', 'nothing has been said yet'),
    ('/why', 'nothing has been said yet'), ('/page', 'give a file'),
    ('/list 3', "/list stands alone: leave out '3'"), ('/quit now', "/quit stands alone: leave out 'now'")])
def test_a_command_that_cannot_be_done_says_why_in_one_line(model, line, message):
    with pytest.raises((ValueError, OSError)) as error:
        Commands(begin(model)).run(line)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_what_stands_behind_a_command_may_be_set_off_by_any_blank_space(model):
    commands = Commands(begin(model))
    assert commands.run('/remember\tla luna') == 'remembered 1 text'
    assert commands.run('/forget  0,0') == 'forgotten 1 text'


# ---- the script ----

@pytest.fixture
def pipe(run, monkeypatch, instruct, tmp_path):
    """pipe('line', ...) -> (exit code, lines of stdout, stderr) of chat.py with a script through a pipe."""
    def pipe(*lines, arguments=()):
        monkeypatch.setattr('sys.stdin', io.StringIO('\n'.join(lines)))
        code, out, err = run('chat.py', '--index_heads=((0,1),(1,3))', f'--memory_file={tmp_path / "mine"}',
                             '--top_k=1', '--max_new_tokens=8', '--context_turns=1', '--recall_votes=2',
                             '--memory_distance=20', '--recall_threshold=0', *arguments, init_from=instruct)
        return code, out.splitlines(), err
    return pipe


def test_a_script_through_a_pipe_gets_a_line_for_each_turn(pipe, model):
    code, lines, err = pipe('il gatto', '', '/remember la luna', '/quit', 'never said')
    assert (code, err) == (0, '')
    assert lines == [' '.join(plain(model, 'il gatto').split()), 'remembered 1 text']
    code, lines, _ = pipe('/list', 'il tetto')
    assert code == 0 and [line.split()[0] for line in lines[:2]] == ['0', '1'] and len(lines) == 3


def test_a_script_goes_on_after_a_mistake_and_ends_with_exit_1(pipe, model):
    code, lines, err = pipe('/forget 99', 'il gatto', '', 'il gatto ' * 200, '/sing', '/remember la luna')
    assert (code, lines) == (1, [' '.join(plain(model, 'il gatto').split()), 'remembered 1 text'])
    told = err.splitlines()
    assert [line.partition(': ')[2].partition(':')[0] for line in told] == ['line 1', 'line 4', 'line 5']
    assert all(line.startswith('error: ') for line in told) and 'text 99 does not exist' in told[0]
    assert pipe('/list', '/quit', '/sing')[::2] == (0, '')


def test_bytes_that_are_no_text_are_a_mistake_of_their_line_alone(model, capsys):
    lines = io.TextIOWrapper(io.BytesIO('/remember la luna\n\xff\n/list'.encode('latin-1')), encoding='utf-8')
    assert talk_through_pipe(begin(model), lines) is False
    out, err = capsys.readouterr()
    assert out.splitlines() == ['remembered 1 text', '   0 remembered: la luna']
    assert err.startswith('error: line 2: the text holds bytes that are not UTF-8') and err.count('\n') == 1


def test_what_a_line_gets_is_there_before_the_next_is_read(model, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr('sys.stdout', io.TextIOWrapper(written))

    def lines():
        yield '/remember la luna'
        assert written.getvalue() == b'remembered 1 text\n'
        yield '/list'
    assert talk_through_pipe(begin(model), lines())
    assert b'la luna' in written.getvalue()


def test_who_reads_no_further_ends_a_script(model, monkeypatch):
    def closed(*_, **__):
        raise BrokenPipeError
    monkeypatch.setattr('talk.terminal.print', closed, raising=False)
    with pytest.raises(BrokenPipeError):
        talk_through_pipe(begin(model), ['/list', '/list'])


@pytest.mark.parametrize(('setting', 'message'), [
    ('max_new_tokens=0', 'max_new_tokens is 0, expected 1 or more'),
    ('max_new_tokens=256', "max_new_tokens is 256, but the model's context is 256 tokens: give fewer"),
    ('context_turns=-1', 'context_turns is -1, expected 0 or more'),
    ('top_k=-1', 'top_k is -1, expected 0 or more'), ('temperature=0', 'temperature is 0'),
    ('seed=-1', 'seed -1 is out of range'), ('threads=-1', 'threads is -1, expected 1 or more, or 0'),
    ('recall_texts=0', 'recall_texts is 0, expected'), ('recall_votes=1', 'recall_votes is 1, expected'),
    ('recall_threshold=-1', 'recall_threshold is -1.0'), ('dtype=int3', "dtype is 'int3', expected"),
    ('memory_distance=-1', 'memory_distance is -1, expected 0 or more'), ('device=tpu', "device is 'tpu'"),
    ('serve_port=70000', 'serve_port is 70000, expected a number from 0 to 65535')])
def test_a_number_that_cannot_be_is_named_alone_before_anything_is_said(pipe, setting, message, tmp_path):
    code, lines, err = pipe('il gatto', arguments=[f'--{setting}'])
    assert (code, lines, err.count('\n')) == (1, [], 1) and message in err
    assert os.listdir(tmp_path) == []


def test_a_memory_of_another_model_is_named_with_what_to_do(pipe, instruct, tmp_path):
    other = tiny_family('llama', vocab_size=load_model(instruct)[0].config.vocab_size, block_size=256, seed=7)
    shutil.copytree(instruct, tmp_path / 'other')
    other.save_pretrained(tmp_path / 'other')
    begin(load_model(str(tmp_path / 'other')), tmp_path / 'mine').exchange('la luna')
    code, lines, err = pipe('il gatto')
    assert (code, lines, err.count('\n')) == (1, [], 1)
    assert f"{tmp_path / 'mine'}: memory was written by" in err
    assert 'take that model, name another memory_file, or build' in err


def test_a_model_without_a_template_is_told_before_its_memory_is_looked_at(run, tmp_path):
    (tmp_path / 'manifest.txt').write_text('damaged')
    code, _, err = run('chat.py', f'--memory_file={tmp_path}')
    assert (code, err.count('\n')) == (1, 1) and 'brings no chat template: take an instruct model' in err


def test_what_is_served_goes_on_in_the_memory_of_the_terminal(pipe, tmp_path, monkeypatch):
    serving = []
    monkeypatch.setattr('talk.server.serve', lambda one, *_: serving.append(one))
    pipe('il gatto')
    for memory_file in (tmp_path / 'mine', f"{tmp_path / 'mine'}/"):
        code, _, err = pipe(arguments=['--serve=True', f'--memory_file={memory_file}'])
        assert (code, err, serving[-1].session) == (0, '', 'mine')
        said = serving[-1].talk('mine', serving[-1].style).exchanges()
        assert [words for words, _ in said] == ['il gatto']
    pipe(arguments=['--serve=True', f"--memory_file={tmp_path / 'new' / 'mine'}"])
    assert os.listdir(tmp_path / 'new') == [], 'that it cannot be made would be told before anything is said'


def test_index_heads_of_a_known_model_are_those_of_its_config(monkeypatch):
    monkeypatch.setattr('sys.argv', ['chat.py'])
    script = runpy.run_path(os.path.join(ROOT, 'chat.py'))
    assert script['heads_of_model']() == script['runpy'].run_path(
        os.path.join(ROOT, 'config', 'index_heads_smollm2.py'))['index_heads']


# ---- the terminal ----

def test_a_terminal_shows_a_reply_as_it_is_written_and_goes_on_after_ctrl_c_and_mistakes(model, capsys,
                                                                                        monkeypatch):
    talk = begin(model)
    keys = iter(['la luna', KeyboardInterrupt, '/sing', '', 'il gatto', '/why', EOFError])

    def prompt(*_):
        key = next(keys)
        if isinstance(key, type):
            raise key
        return key
    monkeypatch.setattr('talk.terminal.prompt_of', lambda talk: SimpleNamespace(prompt=prompt))
    talk_in_terminal(talk)
    out, err = capsys.readouterr()
    assert err.startswith('error: no command /sing') and err.count('\n') == 1
    assert all(reply in out for _, reply in talk.exchanges())
    assert [words for words, _ in talk.exchanges()] == ['la luna', 'il gatto']


def test_arrow_keys_bring_back_what_was_said_in_earlier_talks_and_alt_enter_begins_a_line(model, tmp_path):
    begin(model, tmp_path / 'mine').exchange('la luna')
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        session = prompt_of(begin(model, tmp_path / 'mine'))
        keys.send_text('\x1b[A\x1b\rgatto\r')
        assert session.prompt('') == 'la luna\ngatto'
