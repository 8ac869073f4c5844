"""
The controls are what they are called: the plain model reads nothing, the prompt holds the text, an unrelated
text is on something else, the opposite says the opposite, and fresh seeds are fresh.

$ python -m pytest tests/test_controls.py
"""
import glob
import os
import re

import pytest
import torch
from conftest import ROOT

import configurator
from core.texts import read_text
from lab import conditions, measures
from lab.cases import each_case
from lab.questions import CASES_TO_SEARCH_ON, QUESTIONS_AS_CASES
from lab.scores import sentiment_scores
from load import load_model

CONFIGS = sorted(os.path.relpath(path, ROOT) for path in glob.glob(f'{ROOT}/config/[sw]*/*.py'))


@pytest.fixture(scope='module')
def loaded(folder):
    return load_model(folder)


@pytest.fixture
def settings(defaults):
    return {**defaults, 'start': '\nCats are', 'memory_text': 'Cats are good friends.',
            'unrelated_text': 'Trains leave at noon.', 'neutral_text': 'Cats have four legs.',
            'opposite_text': 'Cats are bad friends.', 'held_out_text': 'The sea is cold.', 'num_held_out': 1,
            'memory_layers': (0, 1, 2), 'memory_method': 1, 'memory_fraction': 9.0, 'softmax_scale': 1.0,
            'bookkeeping_fraction': 0.0, 'num_seeds': 2, 'max_new_tokens': 4, 'steering_layer': 1,
            'steering_scale': 3.0}


@pytest.fixture(scope='module')
def described(defaults):
    """What experiments on one text, or many cases, say: [(config, settings of a case)], each text once."""
    found = {}
    os.chdir(ROOT)
    for path in CONFIGS:
        read = configurator.read_sources([path], defaults, 'evaluate.py')
        for one in each_case({name: read[name] for name in defaults}):
            if one['measure'] in ('sentiment', 'recall'):
                key = tuple(one[name] for name in ('start', 'memory_text', 'unrelated_text', 'opposite_text'))
                found.setdefault(key, (path, one))
    return list(found.values())


def condition(s, how):
    return measures.condition_of({**s, 'condition': how}, read_text(s['memory_text']).strip())


# ---- what reaches the model ----

def test_the_plain_condition_reads_nothing_bit_for_bit_whatever_was_read_before(loaded, settings):
    model, tokenizer = loaded
    idx = torch.tensor([tokenizer.encode('\nCats are good friends of dogs')])
    before = model(idx, targets=idx)[0]
    written = model.generate(idx, 4, top_k=1)
    for how in conditions.CONDITIONS:
        with conditions.under(model, tokenizer, condition(settings, how)):
            same = torch.equal(model(idx, targets=idx)[0], before)
        assert same == (how in ('plain', 'prompt')), how
        with conditions.under(model, tokenizer, condition(settings, 'plain')):
            assert model.readers == {}
            assert torch.equal(model(idx, targets=idx)[0], before), f'after {how}'
            assert torch.equal(model.generate(idx, 4, top_k=1), written)
            assert not model.searches
        assert conditions.memory_of(model, tokenizer, condition(settings, 'plain')) is None


@pytest.mark.parametrize('how', conditions.READING)
def test_a_memory_holds_the_text_that_its_condition_names_and_no_other(loaded, settings, how):
    memory = conditions.memory_of(*loaded, condition(settings, how))
    assert [entry['text'] for entry in memory.texts] == [settings[f'{how}_text']]
    assert loaded[1].decode(memory.tokens.tolist()) == settings[f'{how}_text']


def test_the_prompt_holds_the_text_and_then_the_question_and_no_other_condition_does(loaded, settings):
    model, tokenizer = loaded
    for how in conditions.CONDITIONS:
        told = tokenizer.decode(conditions.prompt_of(model, tokenizer, condition(settings, how))[0].tolist())
        assert told == ('\nCats are good friends.\nCats are' if how == 'prompt' else '\nCats are')


def test_the_prompt_of_every_experiment_holds_its_text(narrow_smollm2, described):
    model, tokenizer = load_model(narrow_smollm2)  # a context in which they fit
    assert len(described) > 70
    for path, s in described:
        found = conditions.prompt_of(model, tokenizer, condition(s, 'prompt'))
        told, text = tokenizer.decode(found[0].tolist()), read_text(s['memory_text']).strip()
        assert text in told and told.endswith(s['start']), path


# ---- what the texts of the controls say ----

def words(text):
    return set(re.findall(r'[a-z]{4,}|\d+', text.lower()))


WITHOUT_CONTENT = {*'about come from into lives makes many nothing over people'.split(), 'that', 'these',
                   'whoever', 'with'}
# of content, but no subject's own: the published records were made with these texts
MET_BY_CHANCE = {*'country forests green hills months visit white world'.split()}


def test_an_unrelated_text_has_no_word_of_the_question_or_the_answer_and_hardly_one_of_the_text(described):
    checked = 0
    for path, s in described:
        unrelated = words(read_text(s['unrelated_text']))
        asked = words(s['start'] + s['answer'] + s['substitute']) - {'that', 'with', 'name', 'people'}
        assert not unrelated & asked, path
        shared = unrelated & words(read_text(s['memory_text'])) - WITHOUT_CONTENT
        assert len(shared) <= 3 and shared <= MET_BY_CHANCE, (path, shared)
        checked += bool(unrelated)
    assert checked > 70


def test_the_opposite_of_a_text_with_an_answer_lacks_it_and_the_text_has_it(described):
    asked = [(path, s) for path, s in described if s['measure'] == 'recall' and s['opposite_text']]
    assert len(asked) > 30
    for path, s in asked:
        answer = s['answer'].strip()
        assert answer in read_text(s['memory_text']) and answer not in read_text(s['opposite_text']), path
        differ = words(read_text(s['memory_text'])) ^ words(s['opposite_text'])
        assert len(differ) <= 4, f'{path}: in more than the answer'


def test_the_opposite_of_a_judged_text_is_judged_the_other_way_by_both_judges(described):
    judged = [(path, s) for path, s in described if s['measure'] == 'sentiment' and s['opposite_text']]
    assert len(judged) > 40
    for path, s in judged:
        texts = [read_text(s['memory_text']), read_text(s['opposite_text'])]
        if path == 'config/study/smollm2_blame.py':
            continue  # the mirror image on cats alone has no opposite
        found = sentiment_scores(texts)
        for judge in ('compound', 'polarity'):
            ours, opposite = found[judge]
            assert ours * opposite < 0 and abs(ours - opposite) > 0.5, (path, judge)


# ---- seeds ----

def test_what_chose_a_setting_and_what_measures_it_share_no_seed(defaults, monkeypatch):
    monkeypatch.chdir(ROOT)

    def seeds_of(path):
        return set(measures.point_seeds(configurator.read_sources([path], defaults, 'evaluate.py')))

    chose = seeds_of('config/study/smollm2_search.py') | seeds_of('config/study/smollm2_search_steering.py')
    for path in ('config/study/smollm2_sentiment.py', 'config/writeup/smollm2_headline_sentiment.py',
                 'config/study/smollm2_depths.py', 'config/study/smollm2_subjects.py'):
        assert chose.isdisjoint(seeds_of(path)), path
    recalled = seeds_of('config/study/smollm2_recall.py')
    assert recalled.isdisjoint(seeds_of('config/study/smollm2_search_recall.py'))


def test_what_chose_a_layer_for_recall_and_what_measures_it_over_questions_share_no_question():
    measured, searched = ({case['start'] for case in cases} | {case['answer'] for case in cases}
                          for cases in (QUESTIONS_AS_CASES, CASES_TO_SEARCH_ON))
    assert len(searched) == 2 * len(CASES_TO_SEARCH_ON) and not measured & searched
