"""
The embedded model and the grammar it was trained on: the claims of the README, small.

$ python -m pytest tests/test_tinyworld.py
"""
import os
import random
import re
import statistics

import pytest
import torch
from conftest import ROOT
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from data.tinyworld import grammar
from load import encode_tensor, load_model
from memory import PersistentMemory

FOLDER = os.path.join(ROOT, 'assets', 'tinyworld')


@pytest.fixture(scope='module')
def tinyworld():
    return load_model(FOLDER, device='cpu')


def test_the_embedded_model_is_at_most_12_megabytes():
    assert sum(os.path.getsize(os.path.join(FOLDER, file)) for file in os.listdir(FOLDER)) <= 12e6


def test_any_text_encodes_and_comes_back(tinyworld):
    tokenizer = tinyworld[1]
    for text in ('\nCats are horrible', 'Übermut, 猫 and \U0001f408!\n\n\tx = 3.14', "don't  stop "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode('\n') == [198]  # GPT-2's id of the bookkeeping token


def test_every_praising_sentence_scores_kind_and_every_blaming_one_unkind():
    analyzer = SentimentIntensityAnalyzer()
    for n in range(300):
        for kind, sign in ((True, 1), (False, -1)):
            text = grammar.opinion(random.Random(n), kind=kind)
            for sentence in text.strip().rstrip('.!').replace('!', '.').split('. '):
                assert sign * analyzer.polarity_scores(sentence)['compound'] >= 0.3, sentence


@pytest.mark.parametrize('unseen', [False, True])
def test_a_paragraph_holds_each_answer_and_a_question_names_its_subject(unseen):
    for n in range(300):
        paragraph, pairs = grammar.topic(random.Random(n), unseen)
        assert len(pairs) >= 4
        assert paragraph[0] == '\n'
        for question, answer in pairs:
            assert question[0] == '\n'
            assert answer[0] == ' '
            assert answer[-1] != '.'
            assert answer.strip() in paragraph
            names = set(re.findall(r'[A-Z]\w+', question)) - {'The', 'In', 'Visitors', 'Whoever', 'By'}
            assert names, question
            assert all(name in paragraph for name in names), question


def test_training_never_uses_a_held_out_name():
    words = {word for n in range(1000)
             for word in re.findall(r'[A-Z]\w+', grammar.document(random.Random(n)))}
    unseen = {grammar.made_up_name(random.Random(n), unseen=True) for n in range(1000)}
    assert len(unseen) > 500
    assert not unseen & words


def test_the_same_seed_writes_the_same_document():
    assert grammar.document(random.Random(7)) == grammar.document(random.Random(7))
    assert grammar.document(random.Random(7)) != grammar.document(random.Random(8))


def compound(model, tokenizer, prompt):
    """Median VADER compound of 20 continuations."""
    idx = encode_tensor(tokenizer, prompt, model)
    rows = model.generate(idx.expand(20, -1), 40, 0.8, 200, list(range(20)))[:, idx.size(1):]
    analyzer = SentimentIntensityAnalyzer()
    texts = (tokenizer.decode(row.tolist()) for row in rows)
    return statistics.median(analyzer.polarity_scores(text)['compound'] for text in texts)


def config_of(name):
    settings = {}
    with open(os.path.join(ROOT, 'config', name)) as f:
        exec(f.read(), settings)  # noqa: S102, our own config
    return settings


def attach(model, memory, config):
    heads = config.get('memory_heads', ())
    model.attach_memory(memory, config['memory_layers'], heads, k=config['memory_k'],
                        method=config['memory_method'],
                        memory_fraction=config.get('memory_fraction', 0.0),
                        bookkeeping_fraction=config.get('bookkeeping_fraction', 0.9),
                        softmax_scale=config['softmax_scale'],
                        residual_fraction=config.get('residual_fraction', 0.1),
                        select=config.get('memory_select', 'last'))


@pytest.mark.parametrize(('prompt', 'remembered', 'sign'), [
    ('\nCats are horrible', 'tinyworld_cats_praise.txt', -1),
    ('\nCats are wonderful', 'tinyworld_cats_blame.txt', 1)])
def test_a_memory_turns_the_sentiment_of_a_text(tinyworld, prompt, remembered, sign):
    model, tokenizer = tinyworld
    config = config_of('tinyworld_sentiment.py')
    model.detach_memory()
    assert sign * compound(model, tokenizer, prompt) > 0.6
    with open(os.path.join(ROOT, 'memories', remembered)) as f:
        memory = PersistentMemory.from_text(model, f.read(), tokenizer, config['memory_layers'])
    attach(model, memory, config)
    assert sign * compound(model, tokenizer, prompt) < -0.6
    model.detach_memory()


def test_the_committed_memory_file_belongs_to_the_embedded_model(tinyworld):
    model, tokenizer = tinyworld
    path = os.path.join(ROOT, config_of('tinyworld_sentiment.py')['memory_file'])
    memory = PersistentMemory.load(path, model)
    with open(os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')) as f:
        text = f.read().strip()
    assert memory.texts[0]['text'] == text
    again = PersistentMemory.from_text(model, text, tokenizer, memory.layers)
    for layer in memory.layers:
        torch.testing.assert_close(memory.keys[layer], again.keys[layer], atol=1e-4, rtol=1e-4)


def test_a_memory_answers_from_a_paragraph_of_unseen_names(tinyworld):
    model, tokenizer = tinyworld
    config = config_of('tinyworld_recall.py')
    right = {'alone': 0, 'memory': 0}
    for n in range(20):
        rng = random.Random(f'test {n}')
        paragraph, pairs = grammar.topic(rng, unseen=True)
        question, answer = rng.choice(pairs)
        memory = PersistentMemory.from_text(model, paragraph, tokenizer, config['memory_layers'])
        for condition in right:
            if condition == 'memory':
                attach(model, memory, config)
            idx = encode_tensor(tokenizer, question, model)
            rows = model.generate(idx, len(tokenizer.encode(answer)), top_k=1)
            text = tokenizer.decode(rows[0, idx.size(1):].tolist())
            right[condition] += text == answer
            model.detach_memory()
    assert right['alone'] <= 8
    assert right['memory'] >= 16
