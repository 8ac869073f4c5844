"""
Index heads picked on one half of a file's articles and counted on the other half's questions.

$ python -m pytest tests/test_heads_by_half.py
"""
import itertools
import json

import numpy as np
import pytest
from test_rotary import tiny_family

from lab import heads_by_half, index_heads
from lab.heads_by_half import ALL, CROSSED, GIVEN, HALVES
from lab.index_finder import votes_by_head
from lab.made_up import Question
from lab.many_texts import Asking, Library
from lab.redraw import picture_of
from lab.squad import read_articles

TOLD = [[('Ida bakes bread in Taldun.', 'Ida'), ('Cats sleep.', 'Cats')],
        [('A river runs to Brana.', 'river')], [('The mayor of Perdova is Bo.', 'Bo')],
        [('Rain falls on Stenham.', 'Rain'), ('Cy sings.', 'Cy')]]


def write_squad(path):
    articles = [{'title': str(n), 'paragraphs': [
        {'context': text, 'qas': [{'question': f'Who is {answer}?', 'answers': [{'text': answer}]}] * 2}
        for text, answer in article]} for n, article in enumerate(TOLD)]
    path.write_text(json.dumps({'data': articles}))


@pytest.fixture
def squad(tmp_path):
    write_squad(tmp_path / 'squad.json')
    return str(tmp_path / 'squad.json')


def test_articles_keep_their_paragraphs_and_one_that_comes_twice_is_the_firsts(tmp_path):
    def paragraph(text, question):
        return {'context': text, 'qas': [{'question': question, 'answers': [{'text': 'x'}]}]}
    path = tmp_path / 'twice.json'
    articles = ([paragraph('One.', 'a?')], [paragraph(' One.', 'b?')],
                [paragraph('Two.', 'c?'), paragraph('One.', 'd?')])
    path.write_text(json.dumps({'data': [{'paragraphs': article} for article in articles]}))
    told = [[(one.text, [q.words for q in one.questions]) for one in article]
            for article in read_articles(str(path))]
    assert told == [[('One.', ['a?', 'b?', 'd?'])], [('Two.', ['c?'])]]
    with pytest.raises(ValueError, match="squad_file 'squad' is no file"):
        read_articles('squad')


def test_no_article_is_in_both_halves_and_every_question_is_asked(squad):
    whole, half_of, halves = heads_by_half.libraries_of(read_articles(squad))
    texts = [text for article in TOLD for text, _ in article]
    assert whole.texts == tuple(texts) and half_of.tolist() == [0, 0, 1, 0, 1, 1]
    assert [half.texts for half in halves] == [tuple(texts[:2] + texts[3:4]), tuple(texts[2:3] + texts[4:])]
    for library in (whole, *halves):
        for question, n in zip(library.questions, library.right, strict=True):
            assert question.answers[0] in library.texts[n]
        assert len(library.questions) == 2 * len(library.texts)


def library_of(told):
    questions = tuple(Question(f'Who is {answer}?', (answer,)) for _, answer in told for _ in '12')
    return Library(tuple(text for text, _ in told), questions, np.arange(len(told)).repeat(2))


def test_heads_are_picked_by_their_half_alone_and_asked_of_the_other_among_all_texts(squad, defaults,
                                                                                     tokenizer):
    model = tiny_family('llama', vocab_size=tokenizer.n_vocab, block_size=100)
    s = {**defaults, 'squad_file': squad, 'index_heads': ((1, 0),), 'recall_votes': 3, 'recall_candidates': 2,
         'memory_layers': (), 'memory_distance': 20}
    found, asking = heads_by_half.find(model, tokenizer, s), Asking(distance=20, recall_votes=3)
    every = tuple(itertools.product(range(model.config.n_layer), range(model.config.n_head)))
    group = model.config.n_head // model.config.n_kv_head
    numbered = [(n % 2, text, answer) for n, article in enumerate(TOLD) for text, answer in article]
    places = {}
    for half, name in enumerate(HALVES):
        library = library_of([(text, answer) for of, text, answer in numbered if of == half])
        votes, _ = votes_by_head(model, tokenizer, library, every, asking)
        picked = index_heads.greedy(votes, library.right, [(i, h // group) for i, h in every], 6, 4)
        assert found.heads[name] == tuple(every[i] for i, _ in picked)
        library = library_of([(text, answer) for _, text, answer in numbered])
        votes, _ = votes_by_head(model, tokenizer, library, found.heads[name], asking)
        places[half] = index_heads.places(votes.sum(0), library.right)
        assert found.found[name] == (places[half] == 0).astype(int).tolist()
    half_of = np.array([half for half, *_ in numbered]).repeat(2)
    crossed = np.where(half_of == 0, places[1], places[0])
    assert found.found[CROSSED] == (crossed == 0).astype(int).tolist()
    assert found.in_five[CROSSED] == (crossed < 5).astype(int).tolist()
    assert found.heads[GIVEN] == ((1, 0),) and len(found.read[CROSSED]) == 12
    assert found.half_of == tuple(half_of)
    lines = heads_by_half.lines_of(found)
    count = sum(found.found[CROSSED])
    assert any(line.startswith(f'| {CROSSED} | {ALL} | {count}/12 (') for line in lines)
    assert any(line.startswith(f'| {HALVES[0]}, which it was picked on | {HALVES[0]} |') for line in lines)


def test_the_search_by_halves_writes_a_config_that_runs_and_a_figure_of_its_numbers(
        squad, run, narrow_smollm2, tmp_path):
    short = [f'--squad_file={squad}', '--chat=False', f'--out_dir={tmp_path}/out',
             f'--publish_dir={tmp_path}/assets']
    code, out, err = run('evaluate.py', 'config/find_heads_by_half.py', *short, init_from=narrow_smollm2)
    assert code == 0, err
    numbers = json.loads((tmp_path / 'assets' / 'find_heads_by_half.json').read_text())
    assert picture_of(numbers) == (tmp_path / 'assets' / 'find_heads_by_half.png').read_bytes()
    page = (tmp_path / 'assets' / 'find_heads_by_half.md').read_text()
    assert page.count('exact McNemar p') == 3 and f'| {GIVEN} | {ALL} |' in page
    code, out, err = run('sample.py', str(tmp_path / 'out' / 'find_heads_by_half' / 'best.py'),
                         '--memory_text=The mayor of Taldun is Ida.', '--start=\nThe mayor of Taldun is',
                         '--num_samples=1', '--max_new_tokens=2', init_from='')
    assert code == 0, err


def test_the_search_by_halves_wants_a_file_of_several_articles(defaults, tmp_path):
    with pytest.raises(ValueError, match='give squad_file'):
        heads_by_half.find(None, None, defaults)
    path = tmp_path / 'one.json'
    path.write_text(json.dumps({'data': [{'paragraphs': [
        {'context': 'Ida bakes.', 'qas': [{'question': 'Who?', 'answers': [{'text': 'Ida'}]}]}]}]}))
    with pytest.raises(ValueError, match='has one article, expected two or more'):
        heads_by_half.find(None, None, {**defaults, 'squad_file': str(path)})
