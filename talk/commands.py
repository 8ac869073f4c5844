"""
What a user can ask of a talk beside talking: lines that begin with a slash.
"""
import math
import os
import textwrap
from difflib import get_close_matches

from core import library, stored
from core.texts import read_texts
from page.files import page_of, write_whole
from talk.talk import in_context, only_asks

STAND_ALONE = '/list', '/why', '/plain', '/help', '/quit'


class Commands:
    """Of one talk. `last`: the Reply that /why, /page and /plain are about, None before the first."""

    def __init__(self, talk):
        self.talk, self.last = talk, None
        self.known = {'/remember': (self.remember, 'FILE:path or a text: adds it to the memory'),
                      '/forget': (self.forget, 'NUMBER ... or a source: as if it had never been said'),
                      '/list': (self.list, 'what the memory holds, with numbers and sources'),
                      '/why': (self.why, 'what the last reply drew on and by what evidence, or why not'),
                      '/page': (self.page, 'FILE.html: a page that shows it, token by token'),
                      '/plain': (self.plain, 'the last words again, answered without the memory'),
                      '/save': (self.save, 'PATH: the memory once more, a .safetensors or a folder'),
                      '/help': (self.help, 'this list'),
                      '/quit': (self.quit, 'ends the chat, as Ctrl-D does; nothing is lost')}

    def run(self, line):
        """A line that begins with a slash -> what it says. Raises ValueError, OSError, EOFError for /quit."""
        name, *rest = line.strip().split(maxsplit=1)
        if name not in self.known:
            close = get_close_matches(name.lower(), self.known, n=1)
            raise ValueError(f"no command {name}{f', did you mean {close[0]}' if close else ''}: /help lists "
                             "them; a line that is to begin with a slash begins with a space")
        if rest and name in STAND_ALONE:
            raise ValueError(f"{name} stands alone: leave out {rest[0][:40]!r}")
        return self.known[name][0](*rest)

    def remember(self, text=''):
        if not text:
            raise ValueError("/remember what? give a text, or FILE:path")
        text = f'FILE:{text}' if os.path.isfile(os.path.expanduser(text)) else text
        count = sum(self.talk.remember(one, source or 'remembered') for source, one in read_texts(text))
        return f"remembered {count} text{'s' * (count > 1)}"

    def forget(self, which=''):
        if not which:
            raise ValueError("/forget what? give a text's number, or its source, see /list")
        numbers = which.replace(',', ' ').split()
        is_numbers = all(number.isdecimal() for number in numbers)
        count = self.talk.forget(list(map(int, numbers)) if is_numbers else which)
        return f"forgotten {count} text{'s' * (count > 1)}"

    def list(self):
        held = self.talk.memory.held
        lines = [line_of(number, held.texts[number]) for number in held.live.tolist()]
        return '\n'.join(lines) or "the memory is empty"

    def why(self):
        if not self.last:
            raise ValueError("/why says what the last reply drew on, and nothing has been said yet")
        return why(self.talk, self.last)

    def page(self, path=''):
        if not self.last or not path:
            raise ValueError("/page FILE.html shows what the last reply drew on: give a file, after a reply")
        write_whole(os.path.expanduser(path), page_of(self.talk.trace(self.last)))
        return f"written {path}"

    def plain(self):
        if not self.last:
            raise ValueError("/plain asks the last words again, and nothing has been said yet")
        return self.talk.reply(self.last.words, self.last.before, plain=True).text

    def save(self, path=''):
        if not path:
            raise ValueError("all that was said is on the disk already: /save PATH writes it once more")
        path, memory = os.path.expanduser(path), self.talk.memory
        if library.is_library(path) or os.path.isfile(path):
            raise FileExistsError(f"{path} is there already: name another folder, or a .safetensors")
        memory.append(path) if stored.is_folder(path) else memory.save(path, replace=False)
        return f"saved {path}"

    def help(self):
        return '\n'.join(f'{name:<10} {what}' for name, (_, what) in self.known.items())

    def quit(self):
        raise EOFError


def why(talk, reply):
    """The texts that a reply drew on, or in one line why there are none."""
    best, evidence = talk.evidence(reply)
    least, texts = talk.reading.recall_threshold, reply.memory.texts
    if reply.drew_on():
        lines = [f"{line_of(*one)}\n     votes {votes:.1f}" for *one, votes in reply.drew_on()]
        return '\n'.join(lines) + f"\n     evidence for the first {evidence:.2f}, recall_threshold {least:g}"
    forgotten = talk.memory.forgotten
    shown = ', '.join(str(n) for n in in_context(texts, reply.before) if n not in forgotten)
    reasons = [f"text {shown} stood in the context already, before the model's eyes"] * bool(shown)
    if best is not None and evidence < least:
        reasons.append(f"the evidence, {math.floor(100 * evidence) / 100:.2f}, is below recall_threshold, "
                       f"{least:g}, for the best text, {line_of(best, texts[best]).strip()}")
    elif best is not None:
        reasons.append("it was stopped before")
    asks = any(only_asks(entry) for n, entry in enumerate(texts) if n not in forgotten)
    nothing = "what is remembered only asks" if asks else "the memory is empty"
    return f"nothing was recalled: {'; '.join(reasons) or nothing}"


def line_of(number, entry):
    text = textwrap.shorten(entry['text'], 90, placeholder=' ...')
    return f"{number:4} {entry['source']}: {text}"
