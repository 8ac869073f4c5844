"""
The trace of a written text as one JSON object: what each of its tokens drew from the memory, and how likely
the token is with the memory, without a text or a sentence of it, and under the plain model. README.md has
the schema.

L reading layers, nh query heads, T tokens of the prompt, n written, m in a pass; P stored rows.
"""
import dataclasses

import torch

from core.cache import Cache
from core.rows import TOKENS_A_BATCH
from core.windows import SENTENCE_ENDS, places
from page.again import again, as_attached, log_p, log_p_of, plainly
from page.drawn import look_ups, weights_of
from reader import Reader

FORMAT = 1
LEAST = 1e-4  # of a token's attention; a row that got less is left out
VOTES_SHOWN = 10  # best texts of a vote
HIDDEN_MOST = 24  # texts and sentences without which a token is tried, those that drew most attention


class Drawn:
    """What was drawn so far: maps (n, L, nh) and log_p (n,), weights {text: (n, rows)}, picks (a list a
    token) of look_ups, a list."""

    def __init__(self, n, layers, n_head, entries):
        self.layers, self.entries = layers, entries
        self.maps, self.log_p = torch.zeros(n, len(layers), n_head), torch.zeros(n)
        self.weights, self.picks, self.look_ups, self.known = {}, [[] for _ in range(n)], [], {}

    def add(self, model, cache, step, parts, m):
        """What a pass of m rows drew, whose layers can draw from these parts of texts."""
        now, rows = slice(step, step + m), 0
        for at, layer in enumerate(self.layers):
            reader, found = cache.readers.get(layer), None
            if isinstance(reader, Reader) and reader.reading.method != 4:
                found = look_ups(model, cache, layer, m)
                self.add_look_ups(layer, found, step, cache.gone)
            weights = weights_of(model, cache, layer, m, found).cpu()  # (m, nh, P)
            self.maps[now, at] = weights.sum(-1)
            rows = rows + weights.mean(1) / len(self.layers)  # (m, P)
        sizes = [end - first for _, first, end in parts]
        for (number, first, end), own in zip(parts, rows.split(sizes, dim=1) if parts else ()):
            if number in self.weights or own.any():
                length = self.entries[number]['rows']
                kept = self.weights.setdefault(number, torch.zeros(len(self.log_p), length))
                kept[now, first:end] = own

    def add_look_ups(self, layer, found, step, gone):
        """Each once: by select 'last' a token-head is another where what it found has changed."""
        names = 'rows', 'distances', 'shares'
        found_columns = found.ids, found.distances, found.shares
        attention = found.attention.T.tolist()
        for n, (head, token) in enumerate(zip(found.heads.tolist(), found.tokens.tolist())):
            record = {'layer': layer, 'head': head, 'token': gone + token}
            record |= {name: rounded(column[n].tolist()) for name, column in zip(names, found_columns)}
            key = str(record)
            if key not in self.known:
                self.known[key] = len(self.look_ups)
                self.look_ups.append(record)
            for later, own in enumerate(attention[n]):
                if own > 0:
                    self.picks[step + later].append([self.known[key], rounded(own)])


def trace_of(model, tokenizer, row, T, question=None, recalled=(), max_new_tokens=0, drop_half=False):
    """What a row drew from the attached memory, and its check, as README.md says.

    row (1, T + n) ids, as GPT.generate gave them for a prompt of T tokens; question, max_new_tokens and
    drop_half: as they were given there, 0 is n; recalled: GPT.recalled of the row, by method 5. The memory
    holds what it held then. Raises ValueError where none is attached, or it is not told what was recalled.
    """
    way = model.recaller or next(iter(model.readers.values()), None)
    if way is None:
        raise ValueError("no memory is attached, so that nothing can be traced: attach one")
    if model.recaller and not recalled:
        raise ValueError("recalled is empty, which method 5 needs: give the row's of GPT.recalled")
    held, size = way.memory.held, min(max(row.size(1), T + max_new_tokens), model.config.block_size)
    empty = Cache(size, drop_half=drop_half)
    recalls = {step: list(numbers) for step, numbers, _ in recalled}
    layers, words = list(way.layers if model.recaller else model.readers), pieces(tokenizer, row[0].tolist())
    drawn = Drawn(row.size(1) - T, layers, model.config.n_head, held.texts)
    with torch.inference_mode():
        for step, cache, parts, x in again(model, row, T, as_attached(model, empty, recalls)):
            drawn.add(model, cache, step, parts, x.size(1))
            drawn.log_p[step:step + x.size(1)] = log_p(model, x, row[:, T + step:T + step + x.size(1)])[0]
    texts = [text_of(tokenizer, held, number, own) for number, own in sorted(drawn.weights.items())]
    hidden = hidden_of(texts, drawn.weights)
    check = {'memory': rounded(drawn.log_p.tolist()),
             'plain': rounded(log_p_of(model, row, T, plainly(empty))[0].tolist()), 'hidden': hidden,
             'without': rounded(log_p_without(model, row, T, empty, recalls, hidden))}
    return {'format': FORMAT, 'model': model.config.name, 'heads': model.config.n_head, 'layers': layers,
            'reading': dataclasses.asdict(way.reading), 'prompt': words[:T],
            'written': written(words[T:], drawn, thresholds(way.reading, T, empty)), 'texts': texts,
            'recalls': [vote_of(model, held, row, T, question, *one) for one in recalled],
            'look_ups': drawn.look_ups, 'check': check}


def thresholds(reading, T, cache):
    """-> a function: the number of a written token -> Eq. 4's threshold for it, None where there is none."""
    def threshold(n):
        return rounded(1 / (reading.memory_fraction * (T + n - cache.left(T + n))))
    return threshold if reading.method < 4 and reading.memory_fraction > 0 else lambda n: None


def written(words, drawn, threshold):
    """-> what README.md says of each written token."""
    found = []
    for n, text in enumerate(words):
        rows = {number: own[n].ge(LEAST).nonzero()[:, 0] for number, own in drawn.weights.items()}
        draws = [{'text': number, 'share': rounded(own[n].sum().item()), 'rows': rows[number].tolist(),
                  'weights': rounded(own[n, rows[number]].tolist())}
                 for number, own in drawn.weights.items() if len(rows[number])]
        share = rounded(drawn.maps[n].mean().item())
        found.append({'text': text, 'share': share, 'map': rounded(drawn.maps[n].tolist()),
                      'draws': sorted(draws, key=lambda draw: -draw['share']), 'picks': drawn.picks[n],
                      'threshold': threshold(n)})
    return found


def text_of(tokenizer, held, number, weights):
    """-> what README.md says of a text that was drawn from."""
    tokens, live = pieces(tokenizer, held.tokens_of([number]).tolist()), held.live[held.live < number]
    return {'number': number, **source_of(held.texts[number]), 'first': int(held.lengths[live].sum()),
            'tokens': tokens, 'sentences': sentences_of(tokens), 'usual': rounded(weights.mean(0).tolist())}


def source_of(entry):
    """Where a text is from, and of a window which it is."""
    place = {name: entry[name] for name in ('window', 'of', 'start', 'end') if name in entry}
    return {'source': entry['source']} | ({'place': place} if place else {})


def vote_of(model, held, row, T, question, step, numbers, _):
    """-> what README.md says of a recall: who had how many votes."""
    recaller = model.recaller
    idx, span = row[:, :T + step], question
    if step:
        idx, span = recaller.within_reach(idx, held, question)
    votes, voters = recaller.votes(model, idx, held, span)
    best = votes[0].topk(min(VOTES_SHOWN, votes.size(1)))
    told = [{'text': number, **source_of(held.texts[number]), 'votes': rounded(own)}
            for own, number in zip(best.values.tolist(), held.live[best.indices].tolist())]
    return {'step': step, 'recalled': list(numbers), 'voters': voters, 'votes': told}


# ---- the check ----

def hidden_of(texts, weights):
    """-> [(number of a text, first row, end)] of what is left out in turn: each text, where there are
    several, and each sentence, once where it is all of a text; of many those that drew most beyond what they
    draw anyway."""
    spans = [(text['number'], 0, len(text['tokens'])) for text in texts if len(texts) > 1]
    spans += [(text['number'], *span) for text in texts for span in text['sentences']
              if len(text['sentences']) > 1 or len(texts) == 1]
    above = {number: (own - own.mean(0)).clamp(min=0).sum(0) for number, own in weights.items()}
    best = sorted(spans, key=lambda span: -above[span[0]][span[1]:span[2]].sum().item())[:HIDDEN_MOST]
    return sorted(best)


def log_p_without(model, row, T, empty, recalls, hidden):
    """-> for each of `hidden` log p of the written tokens."""
    if model.recaller is None:
        return [log_p_of(model, row, T, as_attached(model, empty, recalls, [one]))[0].tolist()
                for one in hidden]
    longest = max((own['rows'] for own in model.recaller.memory.texts), default=0)
    together, found = max(1, TOKENS_A_BATCH // (longest + row.size(1))), []
    for first in range(0, len(hidden), together):
        some = hidden[first:first + together]
        starts = as_attached(model, empty, recalls, some)
        found += log_p_of(model, row.expand(len(some), -1), T, starts).tolist()
    return found


# ---- words ----

def pieces(tokenizer, ids):
    """Ids -> the characters that each adds to the text; '' for one that ends within a character, which the
    token that completes it then has."""
    found, begin = [], 0
    for end in range(1, len(ids) + 1):
        before = ids[max(0, begin - 1):begin]  # since some tokenizers drop the space of a first word
        text = tokenizer.decode(ids[max(0, begin - 1):end])[len(tokenizer.decode(before)):]
        is_part = text.endswith('\ufffd') and end - begin < 4 and end < len(ids)
        found.append('' if is_part else text)
        begin = begin if is_part else end
    return found


def sentences_of(tokens):
    """Texts of tokens -> (first, end) of the sentences, in tokens."""
    text, at, starts = ''.join(tokens), 0, [0]
    cuts = iter([*places(text, 0, len(text), SENTENCE_ENDS), len(text) + 1])
    cut = next(cuts)
    for n, token in enumerate(tokens, 1):
        at += len(token)
        if at >= cut:
            cut = next(later for later in cuts if later > at)
            # blank space is no sentence, but begins the next
            starts += [n] if ''.join(tokens[starts[-1]:n]).strip() and text[at:].strip() else []
    return list(zip(starts, [*starts[1:], len(tokens)]))


def rounded(value):
    """To 4 digits: what is kept of a number."""
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f'{value:.4g}') if isinstance(value, float) else value
