"""
What is measured at one point of an experiment: sentiment, recall of an answer, or the look-ups of a step; and beside it the damage
and the work. facts.py has one more measure.

A point is a dictionary of evaluate.py's settings. Its `condition` says how the remembered text reaches the model: 'memory';
'plain', not at all; 'prompt', in front of the prompt; 'unrelated' and 'opposite', a memory of another text in its place; 'steering',
as a direction added to the residual stream (activation addition, Turner et al. 2023, of mean differences as in repeng).

A measure returns {'samples': {name: one number a seed, or a fact}, 'numbers': {name: number}, 'held_out': the nats and tokens of each
document on other subjects, 'work': token-heads searched and picked in a step, and what else it found}.
"""
import contextlib
import functools
import math
import random
import re
import statistics
import time
from collections import Counter

import torch
from torch.nn import functional as F

from data.tinyworld import grammar
from load import attach, encode_tensor, load_memory, open_memory, read_text, seed_list
from memory import PersistentMemory, describe
from model import Cache

CONDITIONS = {'plain': 'plain model', 'prompt': 'text in the prompt', 'memory': 'memory', 'unrelated': 'memory of an unrelated text',
              'opposite': 'memory of the opposite text', 'steering': 'steering vector'}


def rounded(value):
    """To 6 digits: what is kept of a number."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


def point_seeds(s):
    return list(s['seeds']) or seed_list(s['seed'], s['num_seeds'])


# ---- conditions ----

def remembered_text(model, tokenizer, s):
    """memory_text, else the texts of memory_file; with the substitute in the answer's place."""
    text = original_text(model, tokenizer, s)
    return substituted(text, s['answer'].strip(), s['substitute'].strip(), s['substitute_at'])


def original_text(model, tokenizer, s):
    """As it is given, without a substitute; experiment.check_point sees to it that there is one."""
    if s['memory_text']:
        return read_text(s['memory_text']).strip()
    return '\n'.join(entry['text'] for entry in load_memory(s['memory_file'], '', model, tokenizer).texts)


def substituted(text, answer, substitute, at):
    """`substitute` in the place of each occurrence of `answer`, or of those numbered in `at`. Raises ValueError where there is none."""
    if not substitute:
        return text
    parts = text.split(answer) if answer else [text]
    places = at or range(len(parts) - 1)
    if len(parts) == 1 or max(places) >= len(parts) - 1 or min(places) < 0:
        raise ValueError(f"the answer {answer!r} stands {len(parts) - 1} times in the remembered text, so {substitute!r} cannot take "
                         f"the place of occurrence {', '.join(map(str, at)) or '0'}: correct answer or substitute_at (from 0)")
    return ''.join(part + (substitute if n in places else answer) for n, part in enumerate(parts[:-1])) + parts[-1]


@contextlib.contextmanager
def condition(model, tokenizer, s):
    """Within it the model is as the point's condition wants it. Yields the prompt."""
    text, how = remembered_text(model, tokenizer, s), s['condition']
    vector = steering_vector(model, tokenizer, s, text) if how == 'steering' else None
    try:
        if how == 'memory':
            open_memory(model, tokenizer, {**s, **({'memory_text': text, 'memory_file': ''} if s['memory_text'] else {})})
        elif how in ('unrelated', 'opposite'):
            attach(model, remember(model, tokenizer, s, read_text(s[f'{how}_text'])), s)
        start = read_text(s['start'])
        with steered(model, s['steering_layer'], vector):
            yield f"\n{text}\n{start.removeprefix(chr(10))}" if how == 'prompt' else start
    finally:
        model.detach_memory()


def remember(model, tokenizer, s, *texts):
    """A memory of texts, each on its own."""
    memory = PersistentMemory(describe(model), s['memory_layers'], s['bookkeeping_tokens'], tokenizer.name)
    for text in texts:
        memory.add_text(model, text, tokenizer)
    return memory


def steering_vector(model, tokenizer, s, text):
    """steering_scale times the mean residual of the text less that of the opposite one, after layer steering_layer: (C,)."""
    if not 0 <= s['steering_layer'] < model.config.n_layer:
        raise ValueError(f"steering_layer is {s['steering_layer']}, the model's layers are 0 to {model.config.n_layer - 1}")
    means = [mean_residual(model, encode_tensor(tokenizer, '\n' + t.strip(), model), s['steering_layer'])
             for t in (text, read_text(s['opposite_text']))]
    return s['steering_scale'] * (means[0] - means[1])


def mean_residual(model, idx, layer):
    """Of the residual stream after a layer, over all tokens but the bookkeeping one: (C,)."""
    seen = []
    with torch.no_grad(), hooked(model, layer, lambda block, inputs, x: seen.append(x)):
        model.hidden(idx)
    return seen[0][0, 1:].mean(0)


def steered(model, layer, vector):
    """Within it `vector` (C,) is added to the residual stream after a layer; None is nothing."""
    if vector is None:
        return contextlib.nullcontext()
    return hooked(model, layer, lambda block, inputs, x: x + vector)


@contextlib.contextmanager
def hooked(model, layer, hook):
    """Within it `hook` sees, and can replace, what the layer's block gives."""
    handle = model.transformer.h[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


# ---- writing ----

def write(model, idx, n, s, seeds=None):
    """idx (1, T) -> n new tokens a seed, as lists of ids, and the work that they took."""
    seeds, rows = seeds or point_seeds(s), []
    searches, picks, started = Counter(), Counter(), time.perf_counter()
    for first in range(0, len(seeds), s['batch_size']):
        some = seeds[first:first + s['batch_size']]
        y = model.generate(idx.expand(len(some), -1), n, s['temperature'], s['top_k'] or None, some)
        rows += y[:, idx.size(1):].tolist()
        searches.update(model.searches)
        picks.update(model.picks)
    steps = n * len(seeds)
    work = {'searches_per_step': {layer: count / steps for layer, count in searches.items()},
            'picks_per_step': {layer: count / steps for layer, count in picks.items()},
            'tokens_per_second': steps / (time.perf_counter() - started)}
    return rows, work


def text_scores(model, idx, rows):
    """What was written after idx (1, T), under the plain model and by itself: {name: one number a text}.

    perplexity; distinct_n, the share of n-grams of tokens that differ (Li et al. 2016); repetition, the share of 4-grams that
    stood in the text before (seq-rep-4, Welleck et al. 2020).
    """
    prompt = idx[0].tolist()
    counted = losses(model, [prompt + row for row in rows], skip=len(prompt))
    scores = {'perplexity': [math.exp(nats / tokens) for nats, tokens in counted]}
    for n in (1, 2, 3):
        scores[f'distinct_{n}'] = [distinct(row, n) for row in rows]
    return scores | {'repetition': [1 - distinct(row, 4) for row in rows]}


def distinct(ids, n):
    grams = list(zip(*(ids[i:] for i in range(n))))
    return len(set(grams)) / len(grams) if grams else 1.0


@torch.no_grad()
def losses(model, documents, skip=1):
    """documents, lists of ids -> [(nats, tokens)] of the tokens of each from `skip` on; cropped from the left to the context."""
    found, most = [], max(1, 2**26 // (model.config.vocab_size * model.config.block_size))  # a quarter of a gigabyte of logits
    device = model.transformer.wte.weight.device
    for first in range(0, len(documents), most):
        some = [ids[-model.config.block_size - 1:] for ids in documents[first:first + most]]
        longest = max(map(len, some))
        idx = torch.tensor([ids + [0] * (longest - len(ids)) for ids in some], device=device)
        at = torch.arange(longest, device=device)
        cropped = torch.tensor([[len(all_of_it) - len(ids), len(ids)]
                                for all_of_it, ids in zip(documents[first:first + most], some)], device=device)
        counted = (at >= skip - cropped[:, :1]) & (at < cropped[:, 1:])
        targets = idx.masked_fill(~counted, -1)[:, 1:]
        logits, _ = model(idx[:, :-1], targets=targets)
        nats = F.cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=-1, reduction='none').sum(1)
        found += zip(nats.tolist(), counted[:, 1:].sum(1).tolist())
    return found


# ---- damage ----

def text_before(prompt, s):
    """What the condition put in front of the prompt."""
    return prompt.removesuffix('\n' + read_text(s['start']).removeprefix('\n')) if s['condition'] == 'prompt' else ''


def damage(model, tokenizer, s, prefix, about):
    """Nats and tokens of each held-out document: with what is attached, each token picking for itself, after the text `prefix`.

    Every condition is given the same documents, so short that the text `about` fits before them.
    """
    room = model.config.block_size - len(tokenizer.encode('\n' + about))
    if room < 32:
        raise ValueError(f"the remembered text leaves {room} tokens of the context for held-out text: shorten it")
    before = tokenizer.encode(prefix) if prefix else []
    texts = [tokenizer.encode(text)[:room] for text in held_out_texts(s, about)]
    selects = {reader: reader.select for reader in model.readers.values()}
    for reader in selects:
        reader.select = 'each'
    counted = losses(model, [before + ids for ids in texts], skip=len(before) + 1)
    for reader, select in selects.items():
        reader.select = select
    return {'nats': [nats for nats, _ in counted], 'tokens': [len(ids) - 1 for ids in texts]}


def held_out_texts(s, about):
    """The paragraphs of held_out_text, or documents of the grammar on other subjects than the text `about`, none that training saw."""
    if s['held_out_text']:
        paragraphs = read_text(s['held_out_text']).strip().split('\n\n')
        if not paragraphs[0]:
            raise ValueError("held_out_text is empty: give paragraphs, with blank lines between")
        return ['\n' + paragraph.strip() for paragraph in paragraphs[:s['num_held_out']]]
    remembered = {word.strip('.,').lower() for word in about.split() if word[:1].isupper()}
    subjects = {word for word in remembered if word in grammar.SUBJECTS} or remembered - {'the', 'in', 'is'}
    documents, n = [], 10**9 + 10**6  # neither training's nor validation's numbers
    while len(documents) < s['num_held_out']:
        text = grammar.document(random.Random(f"{s['seed']} {n}"))
        if not subjects & {word.strip('.,').lower() for word in text.split()}:
            documents.append(text)
        n += 1
        if n > 10**9 + 10**6 + 1000 * s['num_held_out']:
            raise ValueError("the grammar writes too little on other subjects than the remembered text's: give held_out_text")
    return documents


# ---- sentiment ----

@functools.cache
def analyzer():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    return SentimentIntensityAnalyzer()


def vader_scores(texts):
    """VADER's four scores of each text, and the mean compound of its sentences, which length alone does not drive to 1."""
    scores = [analyzer().polarity_scores(text) for text in texts]
    found = {name: [score[name] for score in scores] for name in ('compound', 'pos', 'neu', 'neg')}
    sentences = [[part for part in re.split(r'(?<=[.!?])\s+|\n', text) if part.strip()] or [''] for text in texts]
    return found | {'sentence_compound': [statistics.mean(analyzer().polarity_scores(part)['compound'] for part in parts)
                                          for parts in sentences]}


def sentiment(model, tokenizer, s):
    """VADER's scores of the continuations, the prompt left out."""
    with condition(model, tokenizer, s) as prompt:
        rows, work = write(model, encode_tensor(tokenizer, prompt, model), s['max_new_tokens'], s)
        held_out = damage(model, tokenizer, s, text_before(prompt, s), original_text(model, tokenizer, s))
    texts = [tokenizer.decode(row) for row in rows]
    prompt = encode_tensor(tokenizer, read_text(s['start']), model)
    return {'samples': vader_scores(texts) | text_scores(model, prompt, rows), 'numbers': {}, 'held_out': held_out, 'work': work,
            'texts': texts}


# ---- recall of an answer ----

def answer_probability(model, idx, answer):
    """The share of probability that the model gives `answer` (list of ids) after idx (1, T)."""
    cache, log_prob = Cache(idx.size(1) + len(answer)), 0.0
    for token in answer:  # one by one, as in writing: under 'last' each new token picks anew
        with torch.no_grad():
            logits, _ = model(idx, cache=cache)
        log_prob += logits[0, 0].float().log_softmax(-1)[token].item()
        idx = torch.tensor([[token]], device=idx.device)
    return math.exp(log_prob)


def is_right(text, answer):
    """Whether the text begins with the answer, as whole words."""
    return text.startswith(answer) and not text[len(answer):][:1].isalnum()


def recall(model, tokenizer, s):
    """The share of seeds, and of probability, that `answer` gets after the prompt, and `substitute`, where there is one."""
    wanted = {'': s['answer'], 'substitute_': s['substitute']} if s['substitute'] else {'': s['answer']}
    n = max(s['max_new_tokens'], *(len(tokenizer.encode(answer)) + 1 for answer in wanted.values()))
    with condition(model, tokenizer, s) as prompt:
        idx = encode_tensor(tokenizer, prompt, model)
        rows, work = write(model, idx, n, s)
        numbers = {f'{kind}probability': answer_probability(model, idx, tokenizer.encode(answer)) for kind, answer in wanted.items()}
        held_out = damage(model, tokenizer, s, text_before(prompt, s), original_text(model, tokenizer, s))
    prompt = encode_tensor(tokenizer, read_text(s['start']), model)
    texts, samples = [tokenizer.decode(row) for row in rows], {}
    for kind, answer in wanted.items():
        samples |= {f'{kind}right': [int(is_right(text, answer)) for text in texts],
                    f'{kind}mentioned': [int(bool(re.search(rf'\b{re.escape(answer.strip())}\b', text))) for text in texts]}
    if s['substitute']:  # its own yardstick: how often the plain model says it anyway
        plain = [tokenizer.decode(row) for row in write(model, prompt, n, s)[0]]
        samples['substitute_plain'] = [int(is_right(text, s['substitute'])) for text in plain]
        numbers['substitute_plain_probability'] = answer_probability(model, prompt, tokenizer.encode(s['substitute']))
    first_tokens = Counter(tokenizer.decode(row[:1]) for row in rows).most_common()
    return {'samples': samples | text_scores(model, prompt, rows), 'numbers': numbers, 'held_out': held_out, 'work': work,
            'texts': texts, 'first_tokens': first_tokens}


# ---- look-ups of one step ----

def look_ups(model, tokenizer, s):
    """Each look-up of one step, the write-up's Table 2: of the prompt, continued by max_new_tokens - 1 tokens where more than 1."""
    with condition(model, tokenizer, s) as prompt:
        idx = encode_tensor(tokenizer, prompt, model)
        if s['max_new_tokens'] > 1:
            idx = model.generate(idx, s['max_new_tokens'] - 1, s['temperature'], s['top_k'] or None, point_seeds(s)[:1])
        if not model.readers:
            raise ValueError(f"condition {s['condition']!r} looks nothing up: take 'memory'")
        records = []
        for reader in model.readers.values():
            reader.trace = records
        with torch.no_grad():
            model(idx)
        memory = next(iter(model.readers.values())).memory
        shares = {layer: reader.searches / (model.config.n_head * idx.size(1)) for layer, reader in model.readers.items()}
    found = [{**record, 'token': tokenizer.decode([idx[0, record['j']].item()]),
              'tokens': [tokenizer.decode([memory.tokens[row].item()]) if row >= 0 else '' for row in record['ids']]} for record in records]
    return {'look_ups': found, 'shares': shares, 'numbers': {'context_tokens': idx.size(1), 'stored_tokens': len(memory)}, 'samples': {}}
