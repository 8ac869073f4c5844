"""
What a text, or an answer, is worth: sentiment by two judges, perplexity, variety, right or wrong.
"""
import functools
import math
import re
import statistics

import torch
from torch.nn import functional as F

from model import Cache

LOGITS_AT_ONCE = 2**26  # numbers, in float32 a quarter of a gigabyte
JUDGED_WORDS = 20  # of each text, where length is held fixed: 40 tokens are some 30 words


# ---- sentiment ----

@functools.cache
def analyzer():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    return SentimentIntensityAnalyzer()


def sentiment_scores(texts):
    """Two judges of each text: {name: one number a text}.

    VADER's four scores. Its compound is a squashed sum, which length alone drives to 1; so also its compound
    of the text's first words, as many of each text, and the mean compound of its sentences. And TextBlob's
    polarity, from a lexicon of another make, a mean of the words that it knows: -1 to 1.
    """
    scores = [analyzer().polarity_scores(text) for text in texts]
    found = {name: [score[name] for score in scores] for name in ('compound', 'pos', 'neu', 'neg')}
    return found | {
        'sentence_compound': [statistics.mean(map(compound, sentences(text))) for text in texts],
        'first_words_compound': [compound(first_words(text, JUDGED_WORDS)) for text in texts],
        'polarity': [polarity(text) for text in texts]}


def polarity(text):
    from textblob import TextBlob
    return TextBlob(text).sentiment.polarity


def first_words(text, count):
    """With the white space between them, which VADER's rules look at."""
    return re.match(rf'\s*(\S+\s*){{0,{count}}}', text)[0]


def sentences(text):
    return [part for part in re.split(r'(?<=[.!?])\s+|\n', text) if part.strip()] or ['']


def compound(text):
    return analyzer().polarity_scores(text)['compound']


# ---- the text itself ----

def text_scores(model, idx, rows):
    """What was written after idx (1, T), under the plain model and by itself: {name: one number a text}.

    perplexity; distinct_n, the share of n-grams of tokens that differ (Li et al. 2016); repetition, the
    share of 4-grams that stood in the text before (seq-rep-4, Welleck et al. 2020).
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


def losses(model, documents, skip=1):
    """documents, lists of ids -> [(nats, tokens)] of each one's tokens from `skip` on.

    A document longer than the context is cropped from the left.
    """
    longest = min(max(map(len, documents), default=1), model.config.block_size)
    at_once = max(1, LOGITS_AT_ONCE // (model.config.vocab_size * longest))
    return [loss for first in range(0, len(documents), at_once)
            for loss in losses_of_a_batch(model, documents[first:first + at_once], skip)]


@torch.no_grad()
def losses_of_a_batch(model, documents, skip):
    device = model.transformer.wte.weight.device
    most = model.config.block_size + 1  # the first token has no loss, so one more fits
    cropped = [ids[-most:] for ids in documents]
    longest = max(map(len, cropped))
    idx = torch.tensor([ids + [0] * (longest - len(ids)) for ids in cropped], device=device)
    lengths = [[skip - len(ids) + len(kept), len(kept)] for ids, kept in zip(documents, cropped)]
    begins, ends = torch.tensor(lengths, device=device).split(1, dim=1)  # (B, 1)
    at = torch.arange(longest, device=device)
    counted = (at >= begins) & (at < ends)
    targets = idx.masked_fill(~counted, -1)[:, 1:]
    logits, _ = model(idx[:, :-1], targets=targets)
    nats = F.cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=-1, reduction='none').sum(1)
    return zip(nats.tolist(), counted[:, 1:].sum(1).tolist())


# ---- answers ----

@torch.no_grad()
def answer_probability(model, idx, answer):
    """The share of probability that the model gives `answer` (list of ids) after idx (1, T).

    Past block_size the context is cropped from the left, as in GPT.generate.
    """
    size = min(idx.size(1) + len(answer), model.config.block_size)
    cache, log_prob = Cache(size), 0.0
    for token in answer:  # one by one, as in writing: under 'last' each new token picks anew
        if idx.size(1) > size:  # positions move: nothing kept still holds
            cache = Cache(size)
        logits, _ = model(idx[:, -size:][:, cache.length:], cache=cache)
        log_prob += logits[0, 0].float().log_softmax(-1)[token].item()
        idx = torch.cat((idx, idx.new_tensor([[token]])), dim=1)
    return math.exp(log_prob)


def is_right(text, answer):
    """Whether the text begins with the answer, as whole words."""
    return text.startswith(answer) and not text[len(answer):][:1].isalnum()


def mentions(text, answer):
    """Whether the text names the answer anywhere, as whole words."""
    return re.search(rf'\b{re.escape(answer.strip())}\b', text) is not None
