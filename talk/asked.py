"""
What a client asks for, of OpenAI's chat completions: checked, so that what is taken on can be done.
"""
import json
import re
from dataclasses import dataclass

from starlette.exceptions import HTTPException

SESSION = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}')  # the name of a folder, and nothing more
MOST_MESSAGES, MOST_CHARACTERS = 10_000, 200_000  # of the words of one turn
# what would have to be done, and is not: only these values say nothing
NOT_DONE = {'n': (1,), 'top_p': (1,), 'stop': ([],), 'logprobs': (False,), 'top_logprobs': (0,),
            'tools': ([],), 'functions': ([],), 'tool_choice': ('none', 'auto'), 'frequency_penalty': (0,),
            'presence_penalty': (0,), 'logit_bias': ({},), 'response_format': ({'type': 'text'},),
            'modalities': (['text'],), 'audio': ()}


@dataclass(frozen=True)
class Asked:
    """session: the memory's name. temperature 0 is greedy. before: [(words, reply)]. 0, '' and None: as the
    server has it."""
    session: str
    system: str
    before: tuple
    words: str
    new_tokens: int
    temperature: float | None
    seed: int | None
    streams: bool
    counts: bool  # a stream ends with the tokens' number


def refuse(message, param=None, status=400):
    """As OpenAI's servers do: which setting was wrong stands beside what is wrong with it."""
    raise HTTPException(status, {'message': message, 'param': param})


def asked_of(data, model_name, session, most_tokens):
    """The bytes of a request -> Asked. Raises HTTPException, of 400 or 404."""
    body = json_of(data)
    if body.get('model', model_name) != model_name:
        refuse(f"the model {str(body['model'])[:80]!r} is not here, {model_name!r} is", 'model', 404)
    for name, nothing in NOT_DONE.items():
        if body.get(name) is not None and body[name] not in nothing:
            refuse(f"{name} is not done here: leave it out", name)
    system, before, words = turns_of(body.get('messages'))
    tokens = ('max_completion_tokens' if body.get('max_completion_tokens') is not None else 'max_tokens')
    options = of_kind(body, 'stream_options', dict, {})
    return Asked(session_of(body, session), system, before, words,
                 number(body, tokens, 1, most_tokens, 0, whole=True), number(body, 'temperature', 0, 2, None),
                 number(body, 'seed', 0, 2**32 - 1, None, whole=True), of_kind(body, 'stream', bool, False),
                 of_kind(options, 'include_usage', bool, False))


def json_of(data):
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        refuse(f"the body is no JSON ({' '.join(str(error).split())[:100]})")
    if not isinstance(body, dict):
        refuse(f"the body is {type(body).__name__}, expected an object")
    return body


def session_of(body, default):
    name = of_kind(body, 'user', str, '') or default
    if not SESSION.fullmatch(name):
        refuse(f"user is {name[:80]!r}, which names a memory: expected 1 to 64 of A-Z, a-z, 0-9, _ and -",
               'user')
    return name


def of_kind(body, name, kind, default):
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        refuse(f"{name} is {type(value).__name__}, expected {kind.__name__}", name)
    return value


def number(body, name, low, high, default, whole=False):
    value = body.get(name)
    if value is None:
        return default
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        refuse(f"{name} is {str(value)[:40]!r}, expected a {'whole ' * whole}number from {low} to {high}",
               name)
    return value


def turns_of(messages):
    """-> what the system says, [(words, reply)] said before, and the user's new words."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        refuse(f"messages is no list of 1 to {MOST_MESSAGES} turns", 'messages')
    turns = [(role_of(one, n), text_of(one, n)) for n, one in enumerate(messages)]
    system = turns.pop(0)[1] if turns[0][0] == 'system' else ''
    expected = ['user', 'assistant'] * len(turns)
    if [role for role, _ in turns] != expected[:len(turns)] or len(turns) % 2 == 0:
        refuse("messages are a system turn or none, then user and assistant in turn, the user last",
               'messages')
    said = [text for _, text in turns]
    if not all(map(str.strip, said[::2])):
        refuse("a user's message is empty", 'messages')
    return system, tuple(zip(said[:-1:2], said[1::2])), said[-1]


def role_of(message, n):
    role = message.get('role') if isinstance(message, dict) else None
    role = 'system' if role == 'developer' else role
    if role not in ('system', 'user', 'assistant'):
        refuse(f"messages[{n}] has the role {str(role)[:40]!r}, expected 'system', 'user' or 'assistant'",
               'messages')
    return role


def text_of(message, n):
    """Its content: a text, or parts that are texts."""
    content = message.get('content')
    if isinstance(content, list):
        parts = [part.get('text') if isinstance(part, dict) else None for part in content]
        content = '\n'.join(parts) if all(isinstance(part, str) for part in parts) else content
    if content is None and message['role'] == 'assistant':
        return ''
    if not isinstance(content, str) or len(content) > MOST_CHARACTERS:
        refuse(f"messages[{n}] has no content that is a text of up to {MOST_CHARACTERS} characters",
               'messages')
    return content
