"""
Measures what a memory does, over many seeds: sentiment of the text, or recall of unseen facts; and what it costs in perplexity.

$ python evaluate.py config/tinyworld_sentiment.py
$ python evaluate.py config/tinyworld_recall.py

Prints a table, and as its last line one JSON object with the settings and the numbers.
"""
import json
import math
import random
import statistics
from contextlib import nullcontext

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
measure = 'sentiment'  # 'sentiment': VADER's scores of the continuation; 'recall': facts that data/tinyworld's grammar makes up
num_seeds = 100  # sentiment: texts a row of the table; recall: draws a question
num_facts = 100  # recall: paragraphs, each with one question
num_held_out = 60  # documents on other subjects, to measure perplexity on
batch_size = 100  # texts written at once
init_from = 'gpt2'  # from here on as in sample.py
out_dir = 'out'
start = '\n'
max_new_tokens = 50
temperature = 0.8
top_k = 200
seed = 1337
seeds = ()  # in place of seed and num_seeds
memory_file = ''
memory_text = ''
memory_layers = (9,)
memory_heads = ()
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'last'
bookkeeping_tokens = 1
device = 'auto'
dtype = 'float32'
compile = False
# -----------------------------------------------------------------------------
config = configure(globals())

import torch  # noqa: E402, settings are checked before the slow imports
from tqdm import tqdm  # noqa: E402

from data.tinyworld import grammar  # noqa: E402
from load import attach, encode_tensor, load_model, open_memory, read_text, seed_list  # noqa: E402
from memory import PersistentMemory, describe  # noqa: E402
from model import Cache  # noqa: E402


def all_seeds():
    return list(seeds) or seed_list(seed, num_seeds)


def write(model, idx, n):
    """idx (1, T) -> n new tokens for each seed, as lists of ids."""
    rows, every = [], all_seeds()
    for first in range(0, len(every), batch_size):
        some = every[first:first + batch_size]
        rows += model.generate(idx.expand(len(some), -1), n, temperature, top_k or None, some)[:, idx.size(1):].tolist()
    return rows


# ---- sentiment ----

def quartiles(values):
    """-> median, first and third quartile, and their distance."""
    q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive')
    return {'median': median, 'q1': q1, 'q3': q3, 'iqr': q3 - q1}


def vader_scores(texts):
    """-> {'compound', 'pos', 'neu', 'neg': quartiles over the texts}."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    analyzer = SentimentIntensityAnalyzer()
    scores = [analyzer.polarity_scores(text) for text in texts]
    return {name: quartiles([score[name] for score in scores]) for name in ('compound', 'pos', 'neu', 'neg')}


def sentiment(model, tokenizer):
    """-> {row of the table: scores of the continuation, the prompt left out}."""
    idx = encode_tensor(tokenizer, read_text(start), model)
    results = {}
    for label, how in (('plain', model.plain()), ('memory', nullcontext())):
        with how:
            results[label] = vader_scores([tokenizer.decode(row) for row in write(model, idx, max_new_tokens)])
    print(f"{len(all_seeds())} texts of {max_new_tokens} tokens after {start!r}, VADER: median [quartiles]")
    print(f"{'':8}" + ''.join(f'{name:>24}' for name in results['plain']))
    for label, scores in results.items():
        cells = [f"{s['median']:.2f} [{s['q1']:.2f}, {s['q3']:.2f}]" for s in scores.values()]
        print(f'{label:8}' + ''.join(f'{cell:>24}' for cell in cells))
    return results


# ---- recall ----

def unseen_facts():
    """-> [(paragraph, question, answer)]; every made-up name in them is one that training never used."""
    facts = []
    for n in range(num_facts):
        rng = random.Random(f'fact {seed} {n}')
        paragraph, pairs = grammar.topic(rng, unseen=True)
        facts.append((paragraph, *rng.choice(pairs)))
    return facts


def answer_probability(model, idx, answer):
    """The share of probability that the model gives `answer` (list of ids) after idx (1, T)."""
    cache, log_prob = Cache(idx.size(1) + len(answer)), 0.0
    for token in answer:  # one by one, as in writing: under 'last' each new token picks anew
        with torch.no_grad():
            logits, _ = model(idx, cache=cache)
        log_prob += logits[0, 0].float().log_softmax(-1)[token].item()
        idx = torch.tensor([[token]], device=idx.device)
    return math.exp(log_prob)


def is_right(tokenizer, row, answer):
    """Whether the text begins with the answer, as whole words."""
    text = tokenizer.decode(row)
    return text.startswith(answer) and not text[len(answer):][:1].isalnum()


def ask(model, tokenizer, prompt, answer):
    """One question -> its scores in [0, 1]."""
    idx, ids = encode_tensor(tokenizer, prompt, model), tokenizer.encode(answer)
    greedy = model.generate(idx, len(ids) + 1, top_k=1)[0, idx.size(1):].tolist()
    drawn = write(model, idx, len(ids) + 1)
    return {'probability': answer_probability(model, idx, ids), 'greedy': float(is_right(tokenizer, greedy, answer)),
            'sampled': statistics.mean(is_right(tokenizer, row, answer) for row in drawn)}


def recall(model, tokenizer):
    """-> {row of the table: mean scores over the facts}."""
    facts = unseen_facts()
    everything = PersistentMemory(describe(model), memory_layers, bookkeeping_tokens, tokenizer.name)
    for paragraph, _, _ in facts:
        everything.add_text(model, paragraph, tokenizer)
    rows = {'question alone': [], 'text in prompt': [], 'memory of its text': [], f'memory of all {num_facts} texts': []}
    for paragraph, question, answer in tqdm(facts, 'facts', mininterval=1):
        own = PersistentMemory.from_text(model, paragraph, tokenizer, memory_layers, bookkeeping_tokens)
        for row, memory in zip(rows, (None, None, own, everything)):
            if memory is not None:
                attach(model, memory, config)
            rows[row].append(ask(model, tokenizer, paragraph + question if row == 'text in prompt' else question, answer))
            model.detach_memory()
    results = {row: {name: statistics.mean(s[name] for s in scores) for name in scores[0]} for row, scores in rows.items()}
    print(f"{num_facts} facts unseen in training, {len(all_seeds())} draws each: share of right answers")
    print(f"{'':26}{'sampled':>10}{'greedy':>10}{'p(answer)':>12}")
    for row, s in results.items():
        print(f"{row:26}{s['sampled']:10.3f}{s['greedy']:10.3f}{s['probability']:12.3f}")
    return results


# ---- damage ----

def held_out_documents(memory):
    """Documents that training did not see, on other subjects than the memory's: none of its longer capitalised words."""
    remembered = {word.strip('.,').lower() for text in memory.texts for word in text['text'].split() if word[:1].isupper()}
    subjects = {word for word in remembered if word in grammar.SUBJECTS} or remembered - {'the', 'in', 'is'}
    documents, n = [], 10**9 + 10**6  # neither training's nor validation's numbers
    while len(documents) < num_held_out:
        text = grammar.document(random.Random(f'{seed} {n}'))
        if not subjects & {word.strip('.,').lower() for word in text.split()}:
            documents.append(text)
        n += 1
    return documents


def perplexity(model, documents):
    """exp of the mean loss over all tokens of documents (list of ids (1, T))."""
    total, count = 0.0, 0
    for idx in documents:
        with torch.no_grad():
            total += model(idx[:, :-1], targets=idx[:, 1:])[1].item() * (idx.size(1) - 1)
        count += idx.size(1) - 1
    return math.exp(total / count)


def damage(model, tokenizer, memory):
    """-> perplexity of held-out text, plain and with the memory attached, each token picking for itself."""
    device = model.transformer.wte.weight.device
    texts = [tokenizer.encode(text)[:model.config.block_size + 1] for text in held_out_documents(memory)]
    documents = [torch.tensor([ids], device=device) for ids in texts]
    with model.plain():
        plain = perplexity(model, documents)
    attach(model, memory, {**config, 'memory_select': 'each'})
    attached = perplexity(model, documents)
    print(f"perplexity of {len(documents)} held-out documents on other subjects: plain {plain:.3f}, with memory {attached:.3f} "
          f"({100 * (attached / plain - 1):+.1f} %)")
    return {'plain': plain, 'memory': attached, 'ratio': attached / plain}


def main():
    if measure not in ('sentiment', 'recall'):
        raise ValueError(f"measure is {measure!r}, expected 'sentiment' or 'recall'")
    if min(num_seeds, num_facts, num_held_out) < 2 or batch_size < 1:
        raise ValueError("num_seeds, num_facts and num_held_out must be 2 or more, batch_size 1 or more")
    model, tokenizer = load_model(init_from, out_dir, device, dtype, compile)
    memory = open_memory(model, tokenizer, config)
    if memory is None:
        raise ValueError("no memory to measure: give memory_file or memory_text")
    results = sentiment(model, tokenizer) if measure == 'sentiment' else recall(model, tokenizer)
    results['perplexity'] = damage(model, tokenizer, memory)  # attaches it again, recall() has had others
    print(json.dumps({'measure': measure, 'results': results, 'config': config}))


if __name__ == '__main__':
    with one_line_errors():
        main()
