"""
A talk with a model: its words and replies go into a memory, and what new words are about comes back from it.

The model sees the last exchanges, in its own chat template; what is older comes back as texts that method 5
recalls. A text is what a user has said, since that is what tells something; the reply lies beside it.
"""
import bisect
import contextlib
import copy
import datetime
import os
import re
import threading
import time
from dataclasses import dataclass, replace

import torch

from core import library, stored
from core.chat import Turn, chat_turn, header_ids
from core.generation import before_end
from core.rows import Header
from core.windows import WINDOW_OVERLAP, cut
from load import load_memory
from memory import PersistentMemory, describe
from page.trace import trace_of

# words that only ask: in the memory they would be what the same question, asked again, is most like
ONLY_ASKS = re.compile(r'[^.!;,:\n?？؟]*[?？؟]+')
BETWEEN = '\n'  # behind what is remembered, as where a fact and a question are typed in one turn


class Stopped(Exception):
    """Raised by who is told of a reply's words: it is to end here."""


@dataclass(frozen=True)
class Style:
    """How replies are written: after a system's turn ('' is the template's own), with so many exchanges in
    the context; the rest as in GPT.generate, top_k 0 is all."""
    system: str
    context_turns: int
    max_new_tokens: int
    temperature: float
    top_k: int
    seed: int


@dataclass(frozen=True)
class Reply:
    """What it answers and the exchanges shown before; what was written, and why it ended ('stop', 'length' or
    'stopped'); its prompt, a Turn, and the tokens written (the one that ends it too); the memory as it was
    read, and what was recalled of it, as GPT.recalled has it."""
    words: str
    before: tuple
    text: str
    ended: str
    turn: Turn
    written: tuple
    memory: PersistentMemory
    recalled: list

    def drew_on(self):
        """-> [(number of a text, its entry, votes)]."""
        return [(number, self.memory.texts[number], votes)
                for _, numbers, all_votes in self.recalled for number, votes in zip(numbers, all_votes)]


def open_memory(folder, model, tokenizer, index_heads):
    """The library in a folder, which is made at the first exchange; '' is a memory of this run alone.

    One that is there keeps its index heads. Raises ValueError, OSError kinds.
    """
    if folder and library.is_library(folder):
        return load_memory(folder, '', model, tokenizer)
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise FileExistsError(f"{folder} is no memory of a talk, which is a folder: name another memory_file")
    if not index_heads:
        raise ValueError(f"no heads of {model.config.name!r} are known that find a text: find them with "
                         "python evaluate.py config/find_index_heads.py --init_from=NAME, and start with "
                         "python chat.py out/find_index_heads/best.py")
    memory = PersistentMemory(describe(model), (), 1, tokenizer.name, index_heads, 'tokens')
    if folder:
        memory.home = stored.Home(folder)  # two that begin at once both append to it
    return memory


class Talk:
    """One user's. Who calls it from several threads holds `lock` from a reply to its remembering."""

    def __init__(self, model, tokenizer, memory, style, reading):
        self.model = copy.copy(model)  # the same weights, with a memory of its own attached
        self.memory, self.reading, self.lock = memory, reading, threading.Lock()
        # a template may tell the date: all texts have one header, that of the day when the memory was begun
        began = (entry['began'] for entry in memory.texts if 'began' in entry)
        self.began = next(began, datetime.datetime.now().isoformat(timespec='seconds'))
        self.tokenizer = copy.copy(tokenizer)
        self.tokenizer.chat = replace(tokenizer.chat, now=datetime.datetime.fromisoformat(self.began))
        self.speak_after(style)

    def speak_after(self, style):
        """Goes on in this style. Raises ValueError for a system's turn that is not the memory's, and where
        the model has no template for it."""
        header = header_ids(self.tokenizer, style.system)
        if self.memory.texts and tuple(header) != self.memory.header:
            raise ValueError("the memory was written behind another header, that of another system turn or "
                             "of no chat: give that system turn, or name another memory_file")
        self.style, self.header = style, Header(chat=True, system=style.system, ending=BETWEEN)

    # ---- say ----

    def exchange(self, words, told=None):
        """-> the Reply to words, remembered together with them when this returns; see `reply`."""
        reply = self.reply(words, told=told)
        self.remember_exchange(words, reply.text)
        return reply

    def reply(self, words, before=None, told=None, plain=False, style=None):
        """-> Reply, remembered by nobody.

        before: [(words, reply)] said before, None is the memory's last. told: is called with each new piece
        of the text; Ctrl-C, or Stopped raised there, ends the reply. plain: without the memory. style: None
        is the talk's own. Raises ValueError for words that do not fit the model's context.
        """
        style = style or self.style
        before = self.exchanges() if before is None else before
        turn, before = self.fitting(words, before[max(0, len(before) - style.context_turns):], style)
        memory = self.read_all_but(before)
        idx = torch.tensor([turn.ids], device=self.model.transformer.wte.weight.device)
        pieces, ends = Pieces(self.tokenizer, told), self.tokenizer.chat.end_ids
        try:
            with self.model.plain() if plain else contextlib.nullcontext():
                self.model.generate(idx, style.max_new_tokens, style.temperature, style.top_k or None,
                                    [style.seed], ends, (turn.start, turn.end), pieces.add)
            pieces.rest()
            ended = 'stop' if pieces.ids and pieces.ids[-1] in ends else 'length'
        except (KeyboardInterrupt, Stopped):
            ended = 'stopped'
        recalled = self.model.recalled[0] if self.model.recalled else []
        return Reply(words, tuple(before), pieces.text(), ended, turn, tuple(pieces.ids), memory, recalled)

    def fitting(self, words, before, style):
        """-> the prompt as a Turn, and the exchanges in it: as many of the last as the context has room for,
        beside the longest text and the reply."""
        longest = max((text['rows'] for text in self.memory.texts), default=0)
        beside, size = longest + style.max_new_tokens, self.model.config.block_size

        def turn_after(first):
            return chat_turn(self.tokenizer, words, style.system, before[first:])

        first = 0 if not before else bisect.bisect_left(
            range(len(before)), True, key=lambda first: len(turn_after(first).ids) + beside <= size)
        turn = turn_after(first)
        if len(turn.ids) + beside > size:
            raise ValueError(f"these words make a prompt of {len(turn.ids)} tokens, and {beside} are for a "
                             f"remembered text and the reply: the model's context is {size}, say less")
        return turn, before[first:]

    def read_all_but(self, before):
        """Attaches the memory, without what stands in the context anyway and what only asks -> it, so."""
        view = copy.copy(self.memory)  # it forgets on its own, and on no disk
        there = {*in_context(view.texts, before)}
        view.forget([number for number in view.held.live.tolist()
                     if number in there or only_asks(view.texts[number])])
        self.model.attach(view, self.reading)
        return view

    def trace(self, reply):
        """What the tokens of a reply drew from memory, see page/README.md. Raises ValueError for one that
        recalled nothing."""
        if not reply.drew_on() or not reply.written:
            raise ValueError("the last reply drew on no remembered text, so that there is nothing to show")
        self.model.attach(reply.memory, self.reading)
        row = torch.tensor([[*reply.turn.ids, *reply.written]])
        told = trace_of(self.model, self.tokenizer, row.to(self.model.transformer.wte.weight.device),
                        len(reply.turn.ids), (reply.turn.start, reply.turn.end), reply.recalled)
        return {**told, 'plain': self.reply(reply.words, list(reply.before), plain=True).text}

    def evidence(self, reply):
        """-> the number of the text that was best for a reply, recalled or not, and the evidence for it,
        found anew; (None, 0) where there was none to recall."""
        held, span = reply.memory.held, (reply.turn.start, reply.turn.end)
        if len(held.live) == 0:
            return None, 0.0
        self.model.attach(reply.memory, self.reading)
        idx = torch.tensor([reply.turn.ids], device=self.model.transformer.wte.weight.device)
        with torch.inference_mode():
            votes, voters = self.model.recaller.votes(self.model, idx, held, span)
            numbers, _, evidence = self.model.recaller.best(self.model, idx, held, span, votes[0], voters)
            return numbers[0], evidence()

    # ---- remember ----

    def exchanges(self):
        """-> [(words, reply)], all that are remembered, in order."""
        live = self.memory.held.live_texts
        return [(entry['said'], entry['reply']) for entry in live if 'reply' in entry]

    def remember_exchange(self, words, reply):
        self.remember(words, time.strftime('said %Y-%m-%d %H:%M:%S'), said=words, reply=reply)

    def remember(self, text, source, **beside):
        """A text, in windows where it is long, in the memory and on the disk -> how many it has become.

        `beside` goes into the entry of the last. Raises ValueError, OSError.
        """
        length = self.header.longest_text(self.model, self.tokenizer, self.memory.index_heads)
        entries = cut([text], [source], self.tokenizer, length, WINDOW_OVERLAP,
                      self.header.text(self.tokenizer))
        entries[-1] |= beside
        entries = [{**entry, 'began': self.began} for entry in entries]
        self.memory.add_entries(self.model, entries, self.tokenizer, self.header)
        self.save()
        return len(entries)

    def forget(self, which):
        """Numbers of texts, or a source -> how many are forgotten, on the disk too. Raises ValueError."""
        count = self.memory.forget(which)
        self.save()
        return count

    def save(self):
        if self.memory.home:
            self.memory.save(self.memory.home.folder)


def in_context(texts, before):
    """The numbers of those that tell something, whose words stand in exchanges, [(words, reply)]."""
    return [number for number, entry in enumerate(texts)
            if any(entry['text'] in words for words, _ in before) and not only_asks(entry)]


def only_asks(entry):
    return 'reply' in entry and bool(ONLY_ASKS.fullmatch(entry['text'].strip()))


class Pieces:
    """A reply as it is written. A piece is told when no character in it is still to be completed."""

    def __init__(self, tokenizer, told):
        self.tokenizer, self.told = tokenizer, told
        self.ids, self.sent = [], ''

    def add(self, drawn):
        self.ids.append(drawn.item())
        if self.told and not self.text().endswith('\N{REPLACEMENT CHARACTER}'):
            self.rest()

    def rest(self):
        text = self.text()
        if self.told and len(text) > len(self.sent):
            self.told(text[len(self.sent):])
            self.sent = text

    def text(self):
        return self.tokenizer.decode(before_end(self.ids, self.tokenizer.chat.end_ids))
