"""
A talk with a tiny random model: what it sees, what it remembers, what comes back.

$ python -m pytest tests/test_talk.py
"""
import dataclasses
import datetime
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import torch
from test_chat import STYLES, save
from test_rotary import tiny_family

from core.chat import chat_turn
from load import load_model
from reader import Reading
from talk.talk import Pieces, Stopped, Style, Talk, only_asks, open_memory

HEADS = (0, 1), (1, 3)
STYLE = Style('', 1, 8, 1.0, 1, 1337)


def save_instruct(folder):
    """A random rotary model, and a chat template."""
    tokenizer = save(folder, STYLES['smollm2'])
    tiny_family('llama', vocab_size=len(tokenizer), block_size=256).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='module')
def model(instruct):
    return load_model(instruct)


def begin(model, folder='', style=STYLE, **reading):
    memory = open_memory(str(folder), *model, HEADS)
    reading = Reading(**{'layers': (), 'method': 5, 'index_heads': memory.index_heads, 'distance': 20,
                         'recall_votes': 2, **reading})
    return Talk(*model, memory, style, reading)


def plain(model, words, before=(), n=8):
    """What the plain model answers, greedily."""
    gpt, tokenizer = model
    idx = torch.tensor([chat_turn(tokenizer, words, '', before).ids])
    row = gpt.generate(idx, n, top_k=1, end_ids=tokenizer.chat.end_ids)[0, idx.size(1):].tolist()
    return tokenizer.decode([i for i in row if i not in tokenizer.chat.end_ids])


# ---- what the model sees ----

def test_with_nothing_remembered_a_reply_is_the_plain_models(model):
    reply = begin(model).exchange('il gatto dorme')
    assert reply.text == plain(model, 'il gatto dorme') and reply.drew_on() == []


def test_a_reply_that_recalls_nothing_is_the_plain_models_behind_the_last_exchanges(model):
    talk = begin(model, recall_threshold=1e5)
    for words in ('la luna', 'il tetto', 'il gatto dorme'):
        shown = talk.exchanges()[-1:]
        assert talk.exchange(words).text == plain(model, words, shown)


def test_a_recalled_text_is_read_as_if_it_stood_in_front_of_what_is_shown(model):
    talk = begin(model, style=dataclasses.replace(STYLE, context_turns=0))
    talk.remember('il gatto guarda il tetto', 'notes')
    reply = talk.reply('la luna')
    [(number, entry, votes)] = reply.drew_on()
    assert (number, entry['source']) == (0, 'notes') and votes >= 0
    tokenizer, ids = talk.tokenizer, list(reply.turn.ids)
    start = chat_turn(tokenizer, 'la luna').start
    ids[start:start] = talk.memory.tokens.tolist()
    assert ids == list(chat_turn(tokenizer, 'il gatto guarda il tetto\nla luna').ids)  # on two lines
    row = model[0].generate(torch.tensor([ids]), 8, top_k=1, end_ids=tokenizer.chat.end_ids)[0, len(ids):]
    assert row.tolist()[:len(reply.written)] == list(reply.written)


def test_a_plain_reply_recalls_nothing_though_something_is_remembered(model):
    talk = begin(model, style=dataclasses.replace(STYLE, context_turns=0))
    talk.remember('il gatto guarda il tetto', 'notes')
    assert talk.reply('la luna').drew_on()
    reply = talk.reply('la luna', plain=True)
    assert reply.drew_on() == [] and reply.text == plain(model, 'la luna')


def test_the_words_of_this_turn_alone_vote(model):
    talk = begin(model)
    for text in ('la luna guarda', 'il tetto', 'il gatto dorme'):
        talk.remember(text, 'notes')
    talk.exchange('la luna e il gatto')
    reply = talk.reply('il tetto dorme')
    turn, recaller = chat_turn(talk.tokenizer, reply.words, '', reply.before), talk.model.recaller
    votes, _ = recaller.votes(talk.model, torch.tensor([turn.ids]), recaller.memory.held,
                              (turn.start, turn.end))
    assert len(reply.before) == 1 and reply.drew_on()[0][2] == pytest.approx(votes.max().item())


def test_what_stands_in_the_context_and_what_only_asks_is_not_recalled(model):
    talk = begin(model, recall_texts=9)
    for words in ('la luna', 'dove dorme il gatto?', 'il tetto', 'il gatto'):
        reply = talk.exchange(words)
    assert [entry['text'] for _, entry, _ in reply.drew_on()] == ['la luna']
    assert [words for words, _ in reply.before] == ['il tetto']


@pytest.mark.parametrize(('words', 'asks'), [
    ('Where does Lena live?', True), ('Where?!', False), ('猫は?', True), ('猫はどこ？', True),
    ('Lena lives in Oporto, do you know it?', False), ('Lena moved. Where to?', False), ('Oporto', False)])
def test_words_only_ask_where_they_are_one_clause_and_a_question_mark(words, asks):
    assert only_asks({'text': words, 'reply': ''}) == asks
    assert not only_asks({'text': words})  # remembered on purpose


def test_as_many_exchanges_are_shown_as_fit_beside_the_longest_text_and_the_reply(model):
    talk = begin(model, style=dataclasses.replace(STYLE, context_turns=100))
    before = [(f'la luna {n}', 'il tetto') for n in range(40)]
    for remembered in ([], ['il gatto guarda il tetto ' * 5]):
        for text in remembered:
            talk.remember(text, 'notes')
        longest = max([text['rows'] for text in talk.memory.texts], default=0)
        turn, shown = talk.fitting('il gatto', before, talk.style)
        room = model[0].config.block_size - 8 - longest
        assert 0 < len(shown) < 40 and shown == before[-len(shown):]
        more = chat_turn(talk.tokenizer, 'il gatto', '', before[-len(shown) - 1:])
        assert len(turn.ids) <= room < len(more.ids)
    talk = begin(model, style=talk.style)
    with pytest.raises(ValueError, match="make a prompt of .* tokens, and 8 are for .* context is 256, say"):
        talk.reply('il gatto ' * 200)


# ---- how it is written ----

def test_pieces_join_to_the_reply_and_break_no_character(model):
    _, tokenizer = model
    ids, told = tokenizer.encode('猫é gatto'), []
    pieces = Pieces(tokenizer, told.append)
    for i in [*ids, tokenizer.chat.end_ids[0]]:
        pieces.add(torch.tensor([[i]]))
    assert ''.join(told) == pieces.text() == '猫é gatto' and len(told) > 2
    assert not any('\N{REPLACEMENT CHARACTER}' in piece for piece in told)


@pytest.mark.parametrize('stop', [Stopped, KeyboardInterrupt])
def test_a_reply_that_is_stopped_is_remembered_as_far_as_it_came(model, stop):
    talk, told = begin(model), []

    def tell(piece):
        told.append(piece)
        if len(told) == 2:
            raise stop
    reply = talk.exchange('il gatto dorme', tell)
    assert reply.ended == 'stopped' and reply.text == ''.join(told) and 2 <= len(reply.written) < 8
    assert talk.exchanges() == [('il gatto dorme', reply.text)]
    assert talk.exchange('la luna').ended in ('stop', 'length')


def test_two_talks_on_one_model_have_each_its_own_memory(model):
    first, second = begin(model), begin(model)
    first.remember('il tetto', 'a')
    second.remember('la luna', 'b')
    assert [entry['text'] for _, entry, _ in first.reply('gatto').drew_on()] == ['il tetto']
    assert [entry['text'] for _, entry, _ in second.reply('gatto').drew_on()] == ['la luna']
    assert model[0].recaller is None


# ---- what lasts ----

def test_a_talk_goes_on_where_it_was(model, tmp_path):
    folder, said = tmp_path / 'mine', ('la luna', 'il tetto', 'il gatto')
    whole = begin(model, tmp_path / 'whole')
    replies = [whole.exchange(words) for words in said]
    for words, reply in zip(said, replies):
        again = begin(model, folder).exchange(words)
        assert (again.text, again.turn) == (reply.text, reply.turn)
    assert begin(model, folder).exchanges() == whole.exchanges()


def test_long_words_become_windows_and_come_back_whole(model, tmp_path):
    words = '. '.join(f'Il gatto {n} guarda la luna' for n in range(30))
    talk = begin(model, tmp_path / 'mine', dataclasses.replace(STYLE, context_turns=0))
    assert talk.remember(words, 'long') > 1
    talk.remember_exchange(words, 'il tetto')
    assert begin(model, tmp_path / 'mine').exchanges() == [(words, 'il tetto')]


def test_what_is_forgotten_is_neither_recalled_nor_shown_again(model, tmp_path):
    talk = begin(model, tmp_path / 'mine')
    talk.exchange('la luna')
    talk.remember('il tetto', 'notes')
    assert talk.forget([0]) == 1 and talk.forget('notes') == 1
    for one in (talk, begin(model, tmp_path / 'mine')):
        assert one.exchanges() == [] and one.reply('gatto').drew_on() == []


def test_a_memory_keeps_its_own_heads_and_a_model_without_known_ones_says_how_to_find_them(model, tmp_path):
    begin(model, tmp_path / 'mine').exchange('la luna')
    assert open_memory(str(tmp_path / 'mine'), *model, ()).index_heads == HEADS
    with pytest.raises(ValueError, match='no heads of .* are known.*find them with'):
        open_memory(str(tmp_path / 'new'), *model, ())
    (tmp_path / 'file').write_text('x')
    with pytest.raises(FileExistsError, match='is no memory of a talk'):
        open_memory(str(tmp_path / 'file'), *model, HEADS)


def test_a_talk_goes_on_behind_its_header_on_another_day_and_not_behind_another(tmp_path, monkeypatch):
    tokenizer = save(tmp_path / 'model', STYLES['llama3'])
    gpt = tiny_family('llama', vocab_size=len(tokenizer), block_size=256)
    gpt.save_pretrained(tmp_path / 'model')
    model = load_model(str(tmp_path / 'model'))
    first = begin(model, tmp_path / 'mine')
    first.exchange('la luna')

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3)
    monkeypatch.setattr('datetime.datetime', Clock)
    later = begin(model, tmp_path / 'mine')
    later.exchange('il tetto')
    assert later.memory.header == first.memory.header
    assert '2031' not in later.tokenizer.decode(later.reply('x').turn.ids)
    assert '2031' in later.tokenizer.decode(begin(model).reply('x').turn.ids)
    with pytest.raises(ValueError, match='written behind another header, that of another system turn'):
        begin(model, tmp_path / 'mine', dataclasses.replace(STYLE, system='il gatto'))


# ---- processes: what is killed, and two at once ----

def say(model, folder, said):
    """In a process of its own: exchanges, one after the other, each as a talk that has just begun."""
    talk = begin(model, folder)
    for words in said:
        talk.exchange(words)


def process(*arguments):
    one = multiprocessing.get_context('fork').Process(target=say, args=arguments)
    one.start()
    return one


def test_who_is_killed_in_the_middle_loses_at_most_the_exchange_that_was_being_written(model, tmp_path):
    folder, said = tmp_path / 'mine', [f'il gatto {n}' for n in range(1000)]
    for kill_after in (1, 4):
        killed = process(model, folder, said)
        deadline = time.monotonic() + 60
        while segments(folder) < kill_after and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        found = [words for words, _ in begin(model, folder).exchanges()]
        assert len(found) >= kill_after and found == said[:len(found)]
        begin(model, folder).exchange('la luna')
        assert len(begin(model, folder).exchanges()) == len(found) + 1
        shutil.rmtree(folder)


def segments(folder):
    """How many exchanges the manifest names, as a reader of its whole lines sees them."""
    path = folder / 'manifest.txt'
    return max(0, path.read_bytes().count(b'\n') - 1) if path.exists() else 0


def test_two_talks_that_begin_one_memory_at_once_lose_nothing(model, tmp_path):
    folder, said = tmp_path / 'mine', [[f'{who} {n}' for n in range(6)] for who in ('il gatto', 'la luna')]
    both = [process(model, folder, some) for some in said]
    for one in both:
        one.join()
        assert one.exitcode == 0
    found = [words for words, _ in begin(model, folder).exchanges()]
    assert sorted(found) == sorted(said[0] + said[1])
    assert [words for words in found if words in said[0]] == said[0]
