"""
Which layers must read a recalled text: what a set of layers is worth, and the search on tiny models.

$ python -m pytest tests/test_reading_layers.py
"""
import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
import torch
from conftest import tiny_model
from test_rotary import tiny_family

from lab import reading_layers
from lab.conditions import reading_memory
from lab.made_up import Question, Story
from lab.many_texts import Asking, library_of
from lab.reading_layers import Asked
from lab.redraw import picture_of
from memory import PersistentMemory
from reader import Reading


class Numbers:
    """A tokenizer: a token is a number, and a new line the token 3."""
    name = ''

    def encode(self, text):
        return [3 if word == '\n' else int(word) for word in re.findall(r'\n|\d+', text)]


TOLD = [Story(text, (Question('', (answer,), begins),)) for text, begins, answer in (
    ('17 30 8 41 5', '30 8', '41 5'), ('9 9 12 40', '12', '2'), ('22 7 31 6 33 11 2', '31 6 44', '7 7 31'))]
READING = Reading(layers=(), method=5, index_heads=((0, 1),))
SETS = [layers for n in range(4) for layers in itertools.combinations(range(3), n)]
MODELS = {'llama': lambda: tiny_family('llama'), 'qwen3': lambda: tiny_family('qwen3', tied=False),
          'gpt2': tiny_model}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def asked_of(model, told, reading=READING):
    return Asked(model, Numbers(), library_of(told, 0, len(told)), Asking(), reading)


def slow_log_p(model, story, layers):
    """One question, one memory, one token at a time, as a user would have it. -> that of each token."""
    question, encode = story.questions[0], Numbers().encode
    memory = PersistentMemory.from_texts(model, [story.text], Numbers(), index_heads=READING.index_heads)
    ids, found = encode(f'\n{question.begins}'), []
    with reading_memory(model, memory, dataclasses.replace(READING, layers=layers)):
        for token in encode(question.answers[0]):
            recalled = (0,) if layers else ()
            row, n = torch.tensor([[*ids, token]]), len(ids)
            found += model.recaller.likelihoods(model, row, (n, n + 1), memory.held, [recalled])
            ids.append(token)
    return found


def slow_numbers(model, told, layers):
    return {'layers': layers, 'log_p': pytest.approx(np.mean([sum(slow_log_p(model, one, layers))
                                                              for one in told]), abs=1e-4)}


def test_a_set_of_layers_is_worth_what_loops_over_questions_and_tokens_say(model):
    asked = asked_of(model, TOLD)
    for layers in SETS:
        found = asked.numbers(layers)
        assert {name: found[name] for name in ('layers', 'log_p')} == slow_numbers(model, TOLD, layers)
    worth = [round(asked.numbers(layers)['log_p'], 3) for layers in SETS]
    assert len(set(worth)) == len(SETS)  # else any set could stand for another


def test_read_in_all_layers_a_text_is_worth_what_it_is_in_the_prompt():
    model, encode = MODELS['llama'](), Numbers().encode
    total = 0
    for story in TOLD:
        question = story.questions[0]
        ids = encode(f'\n{story.text} {question.begins} {question.answers[0]}')
        count = len(encode(question.answers[0]))
        log_p = model(torch.tensor([ids]), targets=torch.tensor([ids]))[0][0].log_softmax(-1)
        total += sum(log_p[i - 1, ids[i]].item() for i in range(len(ids) - count, len(ids)))
    assert asked_of(model, TOLD).numbers((0, 1, 2))['log_p'] == pytest.approx(total / 3, abs=1e-4)


def written(model, story, layers):
    """What the model writes, the likeliest three tokens, after a question on the one text of a memory."""
    question, heads = story.questions[0], READING.index_heads
    ids = torch.tensor([Numbers().encode(f'\n{question.begins}')])
    memory = PersistentMemory.from_texts(model, [story.text], Numbers(), index_heads=heads)
    with reading_memory(model, memory, dataclasses.replace(READING, layers=layers)):
        return model.generate(ids, 3, top_k=1)[0, ids.size(1):].tolist()


@pytest.mark.parametrize('layers', [(0, 1, 2), (1,)])
def test_an_answer_is_right_where_all_of_it_is_what_the_model_writes(model, layers):
    for wrong in (0, 1, 2, None):  # of this question the last token is another
        told = []
        for n, story in enumerate(TOLD):
            *first, last = written(model, story, layers)
            answer = ' '.join(map(str, [*first, (last + (n == wrong)) % 48]))
            told.append(Story(story.text, (Question('', (answer,), story.questions[0].begins),)))
        right = asked_of(model, told).numbers(layers)['right']
        assert right == pytest.approx(1 if wrong is None else 2 / 3)


def test_layers_stop_one_group_after_another_each_time_that_without_which_log_p_stays_highest():
    rng = np.random.default_rng(4)
    worth = {left: rng.random() for n in range(6) for left in itertools.combinations(range(5), n)}
    groups = [(0, 1), (2,), (3, 4), (5, 6, 7), (8,)]
    layers_of = {left: tuple(itertools.chain(*(groups[i] for i in left))) for left in worth}
    of_layers = {layers_of[left]: value for left, value in worth.items()}
    steps = [*reading_layers.fewer_and_fewer(groups, lambda layers: {'layers': layers,
                                                                     'log_p': of_layers[layers]})]
    left = (0, 1, 2, 3, 4)
    for step in steps:
        assert step == {'layers': layers_of[left], 'log_p': worth[left]}
        if left:
            left = max(itertools.combinations(left, len(left) - 1), key=worth.get)
    assert steps[-1]['layers'] == ()


@pytest.mark.parametrize('n_layer', [1, 3, 10, 12, 30, 31])
def test_groups_are_neighbours_and_few(n_layer):
    groups = reading_layers.groups_of(n_layer)
    assert reading_layers.joined(groups) == tuple(range(n_layer))
    assert len(groups) <= reading_layers.MOST_GROUPS
    assert max(map(len, groups)) == -(-n_layer // reading_layers.MOST_GROUPS)  # none larger than it must be


def test_the_fewest_are_chosen_that_keep_nearly_all_that_reading_adds():
    steps = [{'layers': tuple(range(n)), 'log_p': log_p}
             for n, log_p in ((4, -2.0), (3, -1.9), (2, -2.05), (1, -2.11), (0, -12.0))]
    assert reading_layers.fewest(steps) == (0, 1)
    steps[1]['log_p'] = -3.0  # a set that keeps less may have fewer that keep more
    assert reading_layers.fewest(steps) == (0, 1)
    steps[2]['log_p'] = -9.0
    assert reading_layers.fewest(steps) == (0, 1, 2, 3)


def test_the_search_writes_a_config_that_runs_and_a_picture_from_its_numbers(run, roomy_folder, tmp_path):
    arguments = ['--find=reading_layers', '--measure=library', '--num_facts=2', '--index_heads=((0,1),)',
                 f'--out_dir={tmp_path}', f'--publish_dir={tmp_path}/assets']
    code, out, err = run('evaluate.py', *arguments, init_from=roomy_folder)
    assert code == 0, err
    told = json.loads((tmp_path / 'evaluate' / 'summary.json').read_text())
    assert [len(step['layers']) for step in told['steps']] == [3, 2, 1, 0]
    assert [step['layers'] for step in told['fresh']] == [step['layers'] for step in told['steps']]
    assert [step['log_p'] for step in told['fresh']] != [step['log_p'] for step in told['steps']]
    assert (tmp_path / 'assets' / 'evaluate.png').read_bytes() == picture_of(told)
    best = tmp_path / 'evaluate' / 'best.py'
    assert best.read_text() in (tmp_path / 'evaluate' / 'summary.md').read_text()
    code, out, err = run('sample.py', str(best), '--memory_text=The mayor of Taldun is Ida.',
                         '--start=\nThe mayor of Taldun is', '--num_samples=1', '--max_new_tokens=2',
                         init_from='')
    assert code == 0, err


def test_a_search_without_index_heads_says_that_its_config_could_not_run(run, roomy_folder, tmp_path):
    arguments = ['--find=reading_layers', f'--out_dir={tmp_path}']
    code, _, err = run('evaluate.py', *arguments, init_from=roomy_folder)
    assert code == 1 and err.count('\n') == 1 and 'index_heads is ()' in err
    assert not list(tmp_path.iterdir())
