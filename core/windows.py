"""
Long texts cut into windows, each short enough to be remembered as a text of its own.

A text is cut into pieces, sentences where they fit, and a window is as many pieces in a row as its tokens
allow. Two windows in a row share the sentences at their border, since what a sentence is about often stands
in the one before it. Pieces are encoded one by one and windows once, so that the work grows with the text's
length alone.
"""
import re
from typing import NamedTuple

import torch

# where a piece may end, tried in this order: a sentence that is too long is cut at its clauses, a clause at
# its words. Possessive, and no end begins within a run of marks: ten million full stops are gone through once
SENTENCE_ENDS = re.compile(
    # a single capital or a title in front is an abbreviation, and no sentence begins with a small letter
    r"""(?<!\b[A-Z])(?<!\b[DMS][rst])(?<!\bMrs)(?<!\bProf)(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s+(\S))"""
    r"""|[。！？｡।؟۔]++[”’»」』）]*+()|\n[^\S\n]*+(?=\n)()""")
CLAUSE_ENDS = re.compile(r"""[,;:–—]["'”’»)\]]*+(?=\s)|[，；：、]|\n""")
WORD_ENDS = re.compile(r'(?<=\S)(?=\s)')
WINDOW_TOKENS, WINDOW_OVERLAP = 256, 32  # where nothing is said
ENDS = SENTENCE_ENDS, CLAUSE_ENDS, WORD_ENDS
CHARACTERS_A_PIECE = 32  # of a word that is too long, or of a script without spaces
LONGEST_TOKEN = 32  # characters; what is longer than so many a token is cut without being encoded


class Piece(NamedTuple):
    """text[start:end], without blank space around it, and its tokens when it stands alone."""
    start: int
    end: int
    tokens: int


class Counter:
    """How many tokens a text takes behind its header, without those of the header."""

    def __init__(self, tokenizer, prefix):
        self.encode, self.prefix = tokenizer.encode, prefix
        self.header_tokens = len(self.encode(prefix)) if prefix else 0

    def __call__(self, text):
        return len(self.encode(self.prefix + text)) - self.header_tokens


def windows_of(source, text, tokenizer, window_tokens, overlap_tokens, prefix=''):
    """A text -> its windows in order, [{'source', 'text', 'window', 'of', 'start', 'end', 'overlap'}].

    window: 0 to of - 1. overlap: how many tokens at its beginning the window before it has too. 'text' is
    text[start:end], in characters, without blank space around it; all that is not blank is in some window.
    window_tokens: the most that a window takes behind `prefix`, its header, whose own tokens do not count.
    overlap_tokens: a window begins with the last pieces of the one before
    it, as few as take so many tokens, and at most half a window; 0 is none. A text that fits is one window,
    a blank one none. Raises ValueError for a setting out of range, or a character longer than a window.
    """
    if window_tokens < 1 or overlap_tokens < 0:
        raise ValueError(f"window_tokens is {window_tokens}, window_overlap is {overlap_tokens}: expected 1 "
                         "token or more, and an overlap of 0 or more")
    count = Counter(tokenizer, prefix)
    pieces = list(pieces_of(text, 0, len(text), window_tokens, count))
    spans = [(pieces[first].start, pieces[after - 1].end)
             for first, after in filled(text, pieces, window_tokens, overlap_tokens, count)]
    windows, before = [], 0
    for n, (start, end) in enumerate(spans):
        overlap, before = count(text[start:before]) if start < before else 0, end
        windows.append({'source': source, 'text': text[start:end], 'window': n, 'of': len(spans),
                        'start': start, 'end': end, 'overlap': overlap})
    return windows


def cut(texts, sources, tokenizer, window_tokens, overlap_tokens, prefix=''):
    """Texts -> [{'source', 'text'}] of those that fit, and the windows of those that do not, in order."""
    entries = []
    for source, text in zip(sources, texts):
        windows = windows_of(source, text, tokenizer, window_tokens, overlap_tokens, prefix)
        entries += windows if len(windows) > 1 else [{'source': source, 'text': text.strip()}]
    return entries


# ---- pieces ----

def pieces_of(text, start, end, limit, count, ends=ENDS):
    """text[start:end] as Pieces of at most `limit` tokens, cut only where it is longer; blank ones left
    out."""
    part = text[start:end]
    if not part.strip():
        return
    start, end = end - len(part.lstrip()), start + len(part.rstrip())
    if end - start <= limit * LONGEST_TOKEN:
        tokens = count(text[start:end])
        if tokens <= limit:
            yield Piece(start, end, tokens)
            return
    if not ends and end - start == 1:
        raise ValueError(f"the character {text[start:end]!r} takes {tokens} tokens, a window has {limit}: "
                         "give more window_tokens")
    cuts = places(text, start, end, ends[0]) if ends else even_places(start, end)
    for a, b in zip([start, *cuts], [*cuts, end]):
        yield from pieces_of(text, a, b, limit, count, ends[1:])


def places(text, start, end, pattern):
    """Where the pattern ends within text[start:end]."""
    found = [match.end() for match in pattern.finditer(text, start, end)
             if pattern is not SENTENCE_ENDS or not (match[1] or '').islower()]
    return [place for place in found if start < place < end]


def even_places(start, end):
    step = min(CHARACTERS_A_PIECE, max(1, (end - start) // 2))
    return list(range(start + step, end, step))


# ---- windows ----

def filled(text, pieces, limit, overlap, count):
    """-> (first, after) of each window: it holds pieces[first:after]."""
    first = after = 0
    while after < len(pieces):
        end = longest(text, pieces, first, after + 1, limit, count)
        if not end:
            first += 1  # the overlap leaves no room for the next piece
            continue
        yield first, end
        first, after = overlap_before(end, pieces, first, overlap, limit), end


def longest(text, pieces, first, least, limit, count):
    """The greatest `after` from `least` on for which pieces[first:after] fit in a window, 0 where none
    does."""
    after, tokens, last = first, 0, pieces[first].start + limit * LONGEST_TOKEN
    while after < len(pieces) and tokens + pieces[after].tokens <= limit and pieces[after].end <= last:
        tokens += pieces[after].tokens
        after += 1
    while after >= least:
        # side by side pieces can take other tokens than each alone, and blank space between them some
        taken = count(text[pieces[first].start:pieces[after - 1].end])
        if taken <= limit:
            return after
        if after == least:
            return 0
        wanted = tokens * limit / taken
        while tokens > wanted and after > least:
            after -= 1
            tokens -= pieces[after].tokens
    return 0


def overlap_before(end, pieces, first, overlap, limit):
    """Where the window after pieces[first:end] begins: as few pieces before `end` as take `overlap` tokens,
    and at most half a window. It begins later than the one before it."""
    begin, tokens = end, 0
    while begin > first + 1 and tokens < overlap and tokens + pieces[begin - 1].tokens <= limit // 2:
        begin -= 1
        tokens += pieces[begin].tokens
    return begin


# ---- windows that are read together ----

def around(texts, number, neighbours, room, away):
    """Of texts, as `cut` gives them, the number of one -> rising numbers of it and so many windows of its
    source before and after it as stand in `texts` one after the other and take no more than `room` tokens,
    nearest first. away: numbers of texts that are not read. Raises ValueError for windows of a file that
    does not say how far they overlap.
    """
    run, tokens = [number], texts[number]['rows']
    for distance in range(1, neighbours + 1):
        for other, later in ((number - distance, number - distance + 1), (number + distance,) * 2):
            # behind a window that is not read none is read
            if {other - 1, other + 1}.isdisjoint(run) or other in away or not goes_on(texts, later):
                continue
            more = texts[other]['rows'] - texts[later]['overlap'] - texts[other].get('ending', 0)
            if tokens + more <= room:
                run, tokens = [*run, other], tokens + more
    return tuple(sorted(run))


def goes_on(texts, number):
    """Whether the text of this number is the window after the one before it."""
    if not 0 < number < len(texts) or not texts[number].get('window'):
        return False
    before, own = texts[number - 1], texts[number]
    if (before['source'], before.get('of'), before.get('window')) != (own['source'], own['of'],
                                                                     own['window'] - 1):
        return False
    if 'overlap' not in own:
        raise ValueError("recall_neighbours is given, but the memory does not say how far its windows "
                         "overlap: build it again, or set recall_neighbours to 0")
    return True


def joined(held, numbers):
    """The tokens (n,) of windows that follow each other, as one text: what two share comes once."""
    parts = parts_of_a_run(held.texts, numbers)
    return torch.cat([held.tokens_of([n])[first:end] for n, first, end in parts])


def parts_of_a_run(texts, numbers):
    """Numbers of windows that follow each other -> [(number, first, end)], the tokens that are read of each:
    what two share in the first of them, what ends a text behind the last."""
    endings = {n: texts[n].get('ending', 0) for n in numbers[:-1]}
    return [(n, texts[n]['overlap'] if at else 0, texts[n]['rows'] - endings.get(n, 0))
            for at, n in enumerate(numbers)]
