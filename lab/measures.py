"""
What is measured at one point of an experiment: sentiment, recall of an answer, of many facts, or the
look-ups of a step, of questions on many texts; and beside it the damage and the work.

A point's settings, a dictionary of evaluate.py's, end here: what conditions, writing and scoring need of it
is made at once. A measure returns {'samples': {name: one number a seed, or a fact}, 'numbers': {name:
number}, 'held_out': the nats and tokens of each document on other subjects, 'work': token-heads searched and
picked in a step, and what else it found}.
"""
import dataclasses
from collections import Counter

import torch

from core.cache import Cache
from core.generation import before_end
from core.sampling import seed_list
from core.texts import read_text
from lab import facts, many_texts, talk
from lab.cases import over_cases
from lab.conditions import OTHER_TEXTS, READING, Condition, prompt_of, start_of, text_before, under
from lab.damage import HeldOut, damage
from lab.scores import answer_probability, is_right, mentions, sentiment_scores, text_scores
from lab.writing import Drawing, texts_of, write
from load import load_memory
from reader import Reading
from talk.talk import Style

# ---- from settings to what is needed ----

def point_seeds(s):
    return list(s['seeds']) or seed_list(s['seed'], s['num_seeds'])


def drawing_of(s, tokenizer):
    end_ids = tokenizer.chat.end_ids if s['chat'] else ()  # bare text goes on behind them, nanoGPT's way
    return Drawing(tuple(point_seeds(s)), s['temperature'], s['top_k'], s['batch_size'], end_ids)


def held_out_of(s):
    """Raises ValueError for a text with nothing in it."""
    text = read_text(s['held_out_text'])
    if s['held_out_text'] and not text.strip():
        raise ValueError("held_out_text is empty: give paragraphs, with blank lines between")
    return HeldOut(s['num_held_out'], s['seed'], text)


def reading_of(s):
    """How a memory is read; of a condition that reads none, nothing that could be wrong."""
    return Reading.of(s) if s['condition'] in (*READING, 'right') else Reading()


def condition_of(s, original):
    """`original`: see original_text."""
    how = s['condition']
    others = {**{other: f'{other}_text' for other in OTHER_TEXTS}, 'steering': 'opposite_text'}
    text = substituted(original, s['answer'].strip(), s['substitute'].strip(), s['substitute_at'])
    return Condition(how, read_text(s['start']), text,
                     other=read_text(s[others[how]]) if how in others else '',
                     memory_file='' if s['memory_text'] else s['memory_file'],
                     reading=reading_of(s), bookkeeping_tokens=s['bookkeeping_tokens'],
                     steering_layer=s['steering_layer'], steering_scale=s['steering_scale'],
                     chat=s['chat'], system=read_text(s['system']))


def original_text(model, tokenizer, s):
    """memory_text, else the texts of memory_file, without a substitute; check_point sees to it."""
    if s['memory_text']:
        return read_text(s['memory_text']).strip()
    memory = load_memory(s['memory_file'], '', model, tokenizer)
    return '\n'.join(entry['text'] for entry in memory.held.live_texts)


def substituted(text, answer, substitute, at):
    """`substitute` in the place of each occurrence of `answer`, or of those numbered in `at`, from 0.

    Raises ValueError where there is none.
    """
    if not substitute:
        return text
    parts = text.split(answer) if answer else [text]
    found = len(parts) - 1
    places = at or range(found)
    if found == 0 or max(places) >= found or min(places) < 0:
        raise ValueError(f"the answer {answer!r} stands {found} times in the remembered text, "
                         f"so {substitute!r} cannot take the place of occurrence "
                         f"{', '.join(map(str, at)) or '0'}: correct answer or substitute_at (from 0)")
    between = [substitute if n in places else answer for n in range(found)]
    return ''.join(part + word for part, word in zip(parts, [*between, '']))


# ---- sentiment ----

def sentiment(model, tokenizer, s):
    """The scores of two judges of the continuations, the prompt left out."""
    about = original_text(model, tokenizer, s)
    condition, drawing, held_out = condition_of(s, about), drawing_of(s, tokenizer), held_out_of(s)
    with under(model, tokenizer, condition):
        rows, work = write(model, prompt_of(model, tokenizer, condition), s['max_new_tokens'], drawing)
        damaged = damage(model, tokenizer, held_out, text_before(condition), about)
    texts, start = texts_of(tokenizer, rows, drawing), start_of(model, tokenizer, condition)
    return {'samples': sentiment_scores(texts) | text_scores(model, start, rows), 'numbers': {},
            'held_out': damaged, 'work': work, 'texts': texts}


# ---- recall of an answer ----

def recall(model, tokenizer, s):
    """The share of seeds, and of probability, of `answer` after the prompt; of `substitute` too, if any."""
    about = original_text(model, tokenizer, s)
    condition, drawing, held_out = condition_of(s, about), drawing_of(s, tokenizer), held_out_of(s)
    wanted = {'': s['answer']} | ({'substitute_': s['substitute']} if s['substitute'] else {})
    ids = {kind: tokenizer.encode(answer) for kind, answer in wanted.items()}
    # one more than the longest answer, which could go on with the answer's last word
    n = max(s['max_new_tokens'], 1 + max(map(len, ids.values())))
    with under(model, tokenizer, condition):
        idx = prompt_of(model, tokenizer, condition)
        rows, work = write(model, idx, n, drawing)
        numbers = {f'{kind}probability': answer_probability(model, idx, ids[kind]) for kind in wanted}
        damaged = damage(model, tokenizer, held_out, text_before(condition), about)
    start, texts = start_of(model, tokenizer, condition), texts_of(tokenizer, rows, drawing)
    said = str.strip if s['chat'] else str  # of a turn, which some models begin with a space
    wanted = {kind: said(answer) for kind, answer in wanted.items()}
    samples = rights_of([said(text) for text in texts], wanted)
    if s['substitute']:  # its own yardstick: how often the plain model says it anyway
        plain = texts_of(tokenizer, write(model, start, n, drawing)[0], drawing)
        samples['substitute_plain'] = rights_of([said(text) for text in plain], wanted)['substitute_right']
        numbers['substitute_plain_probability'] = answer_probability(model, start, ids['substitute_'])
    first_tokens = Counter(tokenizer.decode(row[:1]) for row in rows).most_common()
    return {'samples': samples | text_scores(model, start, rows), 'numbers': numbers, 'held_out': damaged,
            'work': work, 'texts': texts, 'first_tokens': first_tokens}


def rights_of(texts, wanted):
    """wanted: {what its numbers' names begin with: an answer} -> {name: 0 or 1 for each text}."""
    samples = {}
    for kind, answer in wanted.items():
        samples[f'{kind}right'] = [int(is_right(text, answer)) for text in texts]
        samples[f'{kind}mentioned'] = [int(mentions(text, answer)) for text in texts]
    return samples


# ---- recall of many facts ----

def recall_of_facts(model, tokenizer, s):
    """Of data/tinyworld's grammar, see facts.py."""
    questions = facts.Questions(
        s['condition'], s['seed'], s['num_facts'], drawing_of(s, tokenizer), held_out_of(s),
        s['texts_together'], s['sentence_only'], s['distance'], s['bookkeeping_tokens'], reading_of(s))
    return facts.recall_of_facts(model, tokenizer, questions)


# ---- questions on many texts ----

def recall_of_a_library(model, tokenizer, s):
    """Of many texts, see many_texts.py."""
    asking = many_texts.Asking(s['chat'], read_text(s['system']), s['memory_distance'], s['recall_votes'])
    return many_texts.measure(model, tokenizer, many_texts.Task(
        s['condition'], many_texts.library_of_settings(s), s['texts_together'], asking, reading_of(s),
        s['max_new_tokens'], drawing_of(s, tokenizer).end_ids, held_out_of(s),
        s['memory_file']))


# ---- facts told in a long talk ----

def recall_in_a_talk(model, tokenizer, s):
    """See talk.py."""
    style = Style(read_text(s['system']), s['context_turns'], s['max_new_tokens'], s['temperature'],
                  s['top_k'], s['seed'])
    return talk.measure(model, tokenizer, talk.Task(s['condition'], s['num_facts'], s['seed'], s['out_dir'],
                                                    style, Reading.of(s)))


# ---- look-ups of one step ----

def look_ups(model, tokenizer, s):
    """Each look-up of one step, the write-up's Table 2: the one that writes the last of max_new_tokens,
    or in a chat ends it before."""
    condition = condition_of(s, original_text(model, tokenizer, s))
    drawing = dataclasses.replace(drawing_of(s, tokenizer), seeds=tuple(point_seeds(s)[:1]))
    with under(model, tokenizer, condition):
        idx = prompt_of(model, tokenizer, condition)
        if s['max_new_tokens'] > 1:
            rows, _ = write(model, idx, s['max_new_tokens'] - 1, drawing)
            idx = torch.cat((idx, idx.new_tensor([before_end(rows[0], drawing.end_ids)])), dim=1)
        idx = idx[:, -model.config.block_size:]  # as generate crops it
        records, searches = traced(model, idx)
        memory = next(iter(model.readers.values())).memory
    tokens = [tokenizer.decode([token]) for token in idx[0].tolist()]
    found = [{**record, 'token': tokens[record['j']],
              'tokens': stored_tokens(tokenizer, memory, record['ids'])} for record in records]
    shares = {layer: count / (model.config.n_head * len(tokens)) for layer, count in searches.items()}
    return {'look_ups': found, 'shares': shares, 'samples': {},
            'numbers': {'context_tokens': len(tokens), 'stored_tokens': len(memory)}}


def stored_tokens(tokenizer, memory, rows):
    """The memory's tokens at these rows; '' where a look-up found fewer than it asked for, -1."""
    return [tokenizer.decode([memory.tokens[row].item()]) if row >= 0 else '' for row in rows]


@torch.no_grad()
def traced(model, idx):
    """-> the records of one forward pass's look-ups, and {layer: their number}."""
    cache = Cache(idx.size(1), trace=True)
    model(idx, cache=cache)
    return cache.trace, cache.searches


MEASURES = {'sentiment': sentiment, 'recall': recall, 'facts': recall_of_facts,
            'library': recall_of_a_library, 'talk': recall_in_a_talk, 'look_ups': look_ups}


def measured(model, tokenizer, s):
    """What a run finds at a point: of its one prompt, or of each of its cases."""
    measure = MEASURES[s['measure']]
    return over_cases(measure, model, tokenizer, s) if s['cases'] else measure(model, tokenizer, s)
