"""
Chats: a model's template, as its files have it, and the prompt that it makes of a user's words.

A template is a program in Jinja's language that came with the weights, so it runs in Jinja's sandbox, and
what it renders is bounded. (How long it computes on the way, and in how much memory, is not.)
"""
import datetime
import functools
import itertools
import json
import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.checks import whole_numbers
from core.model_files import read_json
from core.texts import read_file

LONGEST = 2**20  # characters of a template, and of what it renders: far beyond any model's context
NAMED = ('bos_token', 'eos_token', 'unk_token', 'pad_token')  # that templates call by these names


@dataclass(frozen=True)
class ChatFormat:
    """
    template: Jinja's, '' is none. named: {'bos_token': '<s>', ...}. control: {special token: id}. end_ids:
    the ids after which nothing follows. now: the time that a template is told, None is the clock's.
    """
    template: str = ''
    named: dict = field(default_factory=dict)
    control: dict = field(default_factory=dict)
    end_ids: tuple = ()
    now: datetime.datetime | None = None


class Turn(NamedTuple):
    """A prompt's ids (list of int); those of the user's words are ids[start:end]."""
    ids: list
    start: int
    end: int


# ---- from files ----

def chat_of_folder(own, folder):
    """tokenizers.Tokenizer and the folder that it came from, in Hugging Face format -> ChatFormat.

    Raises ValueError, OSError kinds.
    """
    names = 'special_tokens_map', 'tokenizer_config', 'generation_config', 'config'
    special, settings, *ends = (json_in(folder, f'{name}.json') for name in names)
    named = {name: text_of({**special, **settings}.get(name)) for name in NAMED}
    ids = {own.token_to_id(named['eos_token'])}.union(*(end_ids_in(content, folder) for content in ends))
    # a config written by default names the end of a larger vocabulary, which no text of this one meets
    known = {i for i in ids if i is not None and i >= 0 and own.id_to_token(i) is not None}
    return ChatFormat(template_in(folder, settings), {name: text for name, text in named.items() if text},
                      control_tokens(own), tuple(sorted(known)))


def json_in(folder, name):
    path = os.path.join(folder, name)
    return read_json(path) if os.path.exists(path) else {}


def text_of(token):
    text = token.get('content') if isinstance(token, dict) else token
    return text if isinstance(text, str) else ''


def end_ids_in(content, folder):
    given = content.get('eos_token_id')
    try:
        return () if given is None else whole_numbers('eos_token_id', given)
    except ValueError as error:
        raise ValueError(f"{error} or several: correct the files in {folder}") from None


def template_in(folder, settings):
    """chat_template.jinja, else what tokenizer_config.json has: a text, or several of which one is
    'default'."""
    path = os.path.join(folder, 'chat_template.jinja')
    given = read_file(path) if os.path.exists(path) else settings.get('chat_template') or ''
    try:
        if isinstance(given, list):
            given = {one['name']: one['template'] for one in given}.get('default', '')
    except (TypeError, KeyError):
        pass
    if not isinstance(given, str):
        raise ValueError(f"the chat_template in {folder} is neither a text nor texts with names: save the "
                         "tokenizer again")
    return given


def control_tokens(own):
    """tokenizers.Tokenizer -> {special token: id}."""
    return {token.content: i for i, token in own.get_added_tokens_decoder().items() if token.special}


# ---- the template ----

class Generation(Extension):
    """A block of transformers', which marks what an assistant says: its content stands as it is."""
    tags = {'generation'}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(['name:endgeneration'], drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, in which no product or power becomes large."""
    intercepted_binops = frozenset(['*', '**'])

    def call_binop(self, context, operator, left, right):
        sizes = [len(one) if hasattr(one, '__len__') else abs(one) for one in (left, right)]
        if sizes[0] * sizes[1] > LONGEST:
            raise OverflowError(f"a product of {sizes[0]} and {sizes[1]} in it is too large")
        return super().call_binop(context, operator, left, right)


def refuse(message):
    raise ValueError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """As transformers has it, with transformers' defaults: Jinja's own would escape & and <."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


@functools.lru_cache(maxsize=8)
def compiled(template):
    """With what transformers gives a template beside Jinja's own. Raises what Jinja does."""
    if len(template) > LONGEST:
        raise OverflowError(f"it has {len(template)} characters, expected at most {LONGEST}")
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True,
                      extensions=[Generation, 'jinja2.ext.loopcontrols'])
    sandbox.filters['tojson'], sandbox.globals['raise_exception'] = tojson, refuse
    return sandbox.from_string(template)


def render(chat, turns, now):
    """The prompt that a template makes of turns [(role, words)] at the time `now`; a model that can think
    aloud is told not to, since a reply of so few tokens would be thoughts alone.

    Raises ValueError for a template that fails, or renders too much.
    """
    messages, pieces, length = [{'role': role, 'content': words} for role, words in turns], [], 0
    try:
        for piece in compiled(chat.template).generate(
                messages=messages, add_generation_prompt=True, enable_thinking=False, tools=None,
                documents=None, strftime_now=now.strftime, **chat.named):
            pieces.append(piece)
            length += len(piece)
            if length > LONGEST:
                raise OverflowError(f"it renders more than {LONGEST} characters")
    except Exception as error:  # a program of somebody else's can fail in any way
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        system = 'leave out system, or ' * (turns[0][0] == 'system')
        raise ValueError(f"the model's chat template cannot be used ({reason}): take a model with another, "
                         f"or {system}leave out chat") from None
    return ''.join(pieces)


# ---- prompts ----

def turns_of(user, system='', before=()):
    """-> [(role, words)]: what the system says, unless that is blank, `before`, [(user's words, reply)], and
    the user's new words."""
    return [*[('system', system)] * bool(system.strip()),
            *(turn for pair in before for turn in zip(('user', 'assistant'), pair)), ('user', user)]


def parts_of(tokenizer, turns):
    """The prompt as [(text, number of the turn that it is all the words of, else -1)].

    What was typed goes in less the blank space around it, as most templates have it, and what the assistant
    said less what its template leaves out of that. Raises ValueError for a tokenizer without a template, for
    no words, and where the template loses or changes some.
    """
    chat = tokenizer.chat
    now = chat.now or datetime.datetime.now()
    turns = [(role, words.strip()) for role, words in turns]
    if not chat.template:
        raise ValueError("the model brings no chat template: take an instruct model, or leave out chat")
    if not turns[-1][1]:
        raise ValueError("the user's turn is empty: give start, at least one character")
    # stand for what was typed while the template runs, so that it meets no word of it
    marks = [f'what{n}was7said' if words else '' for n, (_, words) in enumerate(turns)]
    frame = render(chat, [(role, mark) for (role, _), mark in zip(turns, marks)], now)
    for (role, _), mark in zip(turns, marks):
        if mark and frame.count(mark) != 1:
            raise ValueError(f"the model's chat template writes what the {role} says {frame.count(mark)} "
                             f"times, expected once: leave out {'system' if role == 'system' else 'chat'}")
    whole, parts = render(chat, turns, now), filled(frame, marks, turns)
    if joined(parts)[0] != whole:
        parts = filled(frame, marks, as_kept(chat, turns, marks, frame, now))
    if joined(parts)[0] != whole:
        raise ValueError("the model's chat template changes what was typed (it may take out its own "
                         "tokens): write it differently")
    return parts


def filled(frame, marks, turns):
    """What a template made of marks -> the parts of parts_of, each mark's turn in its place."""
    return [(turns[marks.index(part)][1], marks.index(part)) if part in marks and part else (part, -1)
            for part in re.split(f"({'|'.join(filter(None, marks))})", frame)]


def as_kept(chat, turns, marks, frame, now):
    """The turns, and of what the assistant said only what the template keeps: it may leave out thoughts."""
    shown = [(role, words if role == 'assistant' else mark) for (role, words), mark in zip(turns, marks)]
    shown, kept = render(chat, shown, now), list(turns)
    for n, (role, words) in enumerate(turns):
        if role == 'assistant' and words and marks[n - 1] and marks[n + 1]:  # the user's, around it
            before, _, behind = between(frame, marks[n - 1], marks[n + 1]).partition(marks[n])
            rest = between(shown, marks[n - 1], marks[n + 1])
            rest = rest[len(before):len(rest) - len(behind)]
            kept[n] = role, rest if rest in words else words
    return kept


def between(text, first, last):
    return text.partition(first)[2].partition(last)[0]


def joined(parts):
    """-> the text of parts, and {number of a turn: (first, end)}, the characters of its words."""
    text, places = '', {}
    for part, turn in parts:
        if turn >= 0:
            places[turn] = len(text), len(text) + len(part)
        text += part
    return text, places


def chat_prompt(tokenizer, user, system=''):
    """The text of a chat in which the user has said `user`, up to where the assistant's answer begins.

    system: '' leaves it to the template. Raises ValueError, see parts_of.
    """
    return joined(parts_of(tokenizer, turns_of(user, system)))[0]


def frame_of(tokenizer, system):
    """-> the parts in front of a user's words, and those behind them."""
    turns = turns_of('words', system)
    parts = parts_of(tokenizer, turns)
    at = [turn for _, turn in parts].index(len(turns) - 1)
    return parts[:at], parts[at + 1:]


def chat_frame(tokenizer, system=''):
    """-> the header, all that stands in front of a user's words, and what stands behind them.

    A space between header and words belongs to the words, as it does in most tokens. Raises as chat_prompt.
    """
    before, behind = frame_of(tokenizer, system)
    return joined(before)[0].rstrip(' '), joined(behind)[0]


def header_ids(tokenizer, system=''):
    """The header of chat_frame by itself -> list of ids."""
    text, places = joined(frame_of(tokenizer, system)[0])
    return encode_typed(tokenizer, text.rstrip(' '), places.values())[0]


def chat_turn(tokenizer, user, system='', before=()):
    """As chat_prompt -> Turn. A control token that somebody typed becomes ordinary tokens that read the
    same: only the template's own act.

    before: what was said before, [(user's words, reply)]. Raises ValueError also where the tokenizer cannot
    write it so.
    """
    turns = turns_of(user, system, before)
    text, places = joined(parts_of(tokenizer, turns))
    ids, spans = encode_typed(tokenizer, text, places.values())
    first, last = places[len(turns) - 1]
    header = len(text[:first].rstrip(' '))
    start = next(i for i, (_, end) in enumerate(spans) if end > header)
    end = next((i for i, (begin, _) in enumerate(spans) if begin >= last and i > start), len(ids))
    return Turn(ids, start, end)


def turn_behind_header(tokenizer, user, system=''):
    """As chat_turn, checked to begin with header_ids, behind which a remembered text can then be put as
    well. Raises ValueError where it does not."""
    turn = chat_turn(tokenizer, user, system)
    if turn.ids[:turn.start] != header_ids(tokenizer, system):
        raise ValueError("the model's chat template joins the user's first word to what stands before it, "
                         "in one token, so that no text can be put between: take a model with another")
    return turn


def encode_typed(tokenizer, text, typed):
    """text, the (first, end) characters of what was typed in it -> ids, and the characters of each id.

    A text that is cut within a control token no longer holds it, and its tokens still read as before.
    """
    control = sorted((token for token in tokenizer.chat.control if len(token) > 1), key=len, reverse=True)
    found = re.finditer(f"(?=({'|'.join(map(re.escape, control))}))", text) if control else ()
    found = [at for at in found if overlaps(at.start(), at.end(1), typed)]
    ids, spans = [], []
    for first, end in itertools.pairwise([0, *(at.start() + 1 for at in found), len(text)]):
        more, places = tokenizer.encode_spans(text[first:end])
        ids, spans = ids + more, spans + [(first + begin, first + stop) for begin, stop in places]
    acting = {i for i, place in zip(ids, spans) if overlaps(*place, typed)}
    acting &= set(tokenizer.chat.control.values())
    if acting or found and tokenizer.decode(ids) != tokenizer.decode(tokenizer.encode(text)):
        token = tokenizer.decode(list(acting)) or found[0][1]
        raise ValueError(f"what was typed holds {token!r}, a control token of the model, which its "
                         "tokenizer cannot write as ordinary text: leave it out")
    return ids, spans


def overlaps(begin, stop, places):
    return any(begin < end and stop > first for first, end in places)
