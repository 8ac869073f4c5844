"""
Many texts in one memory: what is asked, of which memory, under which condition, and what counts.

$ python -m pytest tests/test_many_texts.py
"""
import json

import numpy as np
import pytest
import torch
from lab_settings import records_of
from test_rotary import tiny_family

from lab import many_texts, measures
from lab.answers import remembered, turn_of
from lab.conditions import OF_MANY_TEXTS
from lab.damage import HeldOut
from lab.everyday import FACTS
from lab.made_up import Question, Story
from lab.many_texts import Asking, Task
from lab.rows import rows_of
from lab.runs import run_id, unused
from lab.text_figures import abstaining, recalled
from reader import Reading

HEADS = (0, 1), (1, 1)
TOLD = [Story(f'Text {n} is about {name}.', (Question(f'Who is {name}?', (name,), f'{name} is'),) * asked)
        for n, (name, asked) in enumerate((('Ida', 2), ('Bo', 0), ('Cy', 1), ('Dan', 1), ('Eve', 1)))]
READING = Reading(layers=(), method=5, index_heads=HEADS, distance=20, recall_votes=2)


@pytest.fixture(scope='module')
def model(tokenizer):
    return tiny_family('llama', vocab_size=tokenizer.n_vocab, block_size=100)


def task(condition, size=2, **changes):
    told = many_texts.library_of(TOLD, 3, 5)
    return Task(**{'condition': condition, 'library': told, 'size': size, 'new_tokens': 3, 'end_ids': (),
                   'asking': Asking(distance=20, recall_votes=2), 'reading': READING,
                   'held_out': HeldOut(1, 1, 'Rain falls on the old roof.'), **changes})


def test_every_text_is_asked_about_before_one_is_asked_about_again():
    assert many_texts.library_of(TOLD, 3, 4).right.tolist() == [0, 2, 3, 4]
    assert many_texts.library_of(TOLD, 3, 9).right.tolist() == [0, 2, 3, 4, 0]


def test_everyday_facts_are_a_library_of_forty_each_with_its_question_in_an_order_of_the_seed(defaults):
    settings = {**defaults, 'measure': 'library', 'everyday': True, 'num_facts': 40, 'texts_together': 40}
    told = many_texts.library_of_settings(settings)
    by_text = {fact.told: (fact.asked, fact.answers) for fact in FACTS}
    asked = {told.texts[n]: (question.words, question.answers)
             for n, question in zip(told.right, told.questions)}
    assert asked == by_text and told.texts != tuple(by_text)
    assert many_texts.library_of_settings({**settings, 'seed': 4}).texts != told.texts
    with pytest.raises(ValueError, match='is 41, but with everyday facts there are 40: give no more'):
        many_texts.library_of_settings({**settings, 'texts_together': 41})


@pytest.mark.parametrize('other', [{'pass_keys': True}, {'tinyworld': True}, {'squad_file': 'dev.json'},
                                   {'find': 'index_heads'}])
def test_everyday_facts_are_refused_beside_another_library(defaults, other):
    with pytest.raises(ValueError, match='everyday facts are a library of their own'):
        many_texts.library_of_settings({**defaults, 'everyday': True, **other})


def test_each_question_has_its_text_in_a_memory_of_the_wanted_size_and_in_no_other():
    told = many_texts.library_of(TOLD, 3, 5)
    for size in (1, 2, 3, 5):
        groups = many_texts.memories_of(told, size)
        assert all(len(texts) == len(set(texts)) == size for texts, _ in groups)
        assert sorted(q for _, questions in groups for q in questions) == [0, 1, 2, 3, 4]
        assert all(told.right[q] in texts for texts, questions in groups for q in questions)


def test_more_texts_than_a_file_has_are_refused(tmp_path, defaults):
    path = tmp_path / 'squad.json'
    path.write_text(json.dumps({'data': [{'paragraphs': [
        {'context': 'Ida bakes.', 'qas': [{'question': 'Who?', 'answers': [{'text': 'Ida'}]}]}]}]}))
    s = {**defaults, 'squad_file': str(path), 'texts_together': 2, 'num_facts': 1}
    with pytest.raises(ValueError, match='texts_together is 2, but with .*json there are 1: give no more'):
        many_texts.library_of_settings(s)
    assert many_texts.library_of_settings({**s, 'texts_together': 1}).texts == ('Ida bakes.',)


@pytest.mark.parametrize('condition', OF_MANY_TEXTS)
def test_an_answer_is_that_of_its_condition(model, tokenizer, condition):
    asked = task(condition, size=5)
    found, told = many_texts.measure(model, tokenizer, asked), asked.library
    texts = []
    for n, question in enumerate(told.questions):
        text = told.texts[told.right[n]]
        turn = turn_of(tokenizer, question, asked.asking)
        if condition == 'memory':
            memory = remembered(model, tokenizer, asked, told.texts)
            model.attach(memory, READING)
            recalled, = model.recaller.recalled(model, torch.tensor([turn.ids]), memory.held,
                                                     (turn.start, turn.end))
            assert found['samples']['found'][n] == (recalled[0] == (told.right[n],))
            text = told.texts[recalled[0][0]]
            model.detach_memory()
        front = tokenizer.encode('\n')
        between = tokenizer.encode(text) if condition in ('memory', 'right') else []
        ids = [*front, *between, *turn.ids[len(front):]]
        if condition in ('prompt', 'bm25'):
            ids = tokenizer.encode(f'\n{text}\n') + tokenizer.encode(question.begins)
        new = model.generate(torch.tensor([ids]), 3, top_k=1)[0, len(ids):].tolist()
        texts.append(tokenizer.decode(new))
    assert found['texts'] == texts
    assert found['samples']['right'] == [int(many_texts.contains_answer(text, question.answers))
                                         for text, question in zip(texts, told.questions)]
    assert ('held_out' in found) == (condition in ('plain', 'memory'))
    assert model.recaller is None


def test_bm25_finds_by_words_among_the_texts_of_one_memory(model, tokenizer):
    found = many_texts.measure(model, tokenizer, task('bm25', size=3))
    assert found['samples']['found'] == [1] * 5
    assert many_texts.measure(model, tokenizer, task('prompt'))['samples'].keys() == {'right'}


def test_it_is_counted_whether_something_is_recalled_with_a_questions_text_and_without_it(model, tokenizer):
    far = task('memory', size=5, reading=Reading(**{**READING.__dict__, 'recall_threshold': 1e5}))
    samples = many_texts.measure(model, tokenizer, far)['samples']
    assert samples['recalled'] == samples['recalled_without'] == [0] * 5
    samples = many_texts.measure(model, tokenizer, task('memory', size=5))['samples']
    assert samples['recalled'] == samples['recalled_without'] == [1] * 5
    assert 'evidence' not in samples


def test_the_evidence_that_is_kept_is_what_recall_decides_by(model, tokenizer):
    def recalled(threshold):
        reading = Reading(**{**READING.__dict__, 'recall_threshold': threshold})
        return many_texts.measure(model, tokenizer, task('memory', size=5, reading=reading))['samples']
    samples = recalled(1e-9)
    assert len({*samples['evidence'], *samples['evidence_without']}) > 5
    for name in ('', '_without'):
        values = sorted(samples[f'evidence{name}'])
        between = max(1e-9, (values[1] + values[2]) / 2)
        above = [int(one >= between) for one in samples[f'evidence{name}']]
        assert recalled(between)[f'recalled{name}'] == above


def test_a_row_says_how_many_recall_where_a_tenth_do_so_falsely(point_of_library):
    row, = rows_of([point_of_library])
    assert row['recalled_at_a_tenth']['count'] == 3 and row['threshold_at_a_tenth'] == pytest.approx(0.9)


@pytest.fixture
def point_of_library():
    evidence = {'evidence': [0.89, 0.91, 2.0, 3.0], 'evidence_without': [n / 10 for n in range(11)]}
    samples = {'right': [0, 1, 1, 0], **evidence}
    return {'label': '', 'panel': 0, 'varied': {}, 'settings': {'condition': 'memory', 'measure': 'library',
                                                              'cases': [], 'pass_keys': False,
                                                              'everyday': False},
            'record': {'id': 'x', 'samples': samples, 'numbers': {}}}


def test_an_experiment_on_a_library_is_run_from_the_command_line(run, roomy_folder, tmp_path):
    arguments = ['--measure=library', '--memory_method=5', '--memory_layers=()', '--index_heads=((0,1),)',
                 '--num_facts=2', '--max_new_tokens=2', '--num_held_out=1', '--num_seeds=1',
                 "--grid=[{'texts_together': [1, 3], 'condition': ['memory', 'bm25']}]",
                 f'--out_dir={tmp_path}']
    code, out, err = run('evaluate.py', *arguments, init_from=roomy_folder)
    assert code == 0, err
    labels = [f'texts_together {n}, condition {how}' for n in (1, 3) for how in ('memory', 'bm25')]
    assert [line.split(' | ')[0].strip('| ') for line in out.splitlines()[2:9]] == [
        'plain model', 'right text in the prompt', 'right text from memory', *labels]
    assert len(records_of(tmp_path / 'evaluate')) == 7
    assert (tmp_path / 'evaluate' / 'figure.png').exists()


def test_the_search_writes_a_config_that_runs(run, roomy_folder, tmp_path):
    arguments = ['--find=index_heads', '--measure=library', '--texts_together=6', '--num_facts=5',
                 f'--out_dir={tmp_path}']
    code, out, err = run('evaluate.py', *arguments, init_from=roomy_folder)
    assert code == 0, err
    assert {'best.py', 'figure.png', 'summary.md', 'summary.json'} <= {
        path.name for path in (tmp_path / 'evaluate').iterdir()}
    told = json.loads((tmp_path / 'evaluate' / 'summary.json').read_text())
    assert np.array(told['alone']).shape == (3, 2)
    assert told['proofs'].keys() == {'the facts that chose', 'fresh facts'}
    best = tmp_path / 'evaluate' / 'best.py'
    code, out, err = run('sample.py', str(best), '--memory_text=The mayor of Taldun is Ida.',
                         '--start=\nThe mayor of Taldun is', '--num_samples=1', '--max_new_tokens=2',
                         init_from='')
    assert code == 0, err


@pytest.mark.parametrize('settings, told', [
    ({'memory_method': 4, 'memory_layers': (0,), 'condition': 'right'}, 'one text of many is read'),
    ({'condition': 'steering'}, "condition is 'steering', expected one of 'plain', 'prompt', 'bm25'"),
    ({'measure': 'facts', 'condition': 'bm25'}, "condition is 'bm25', expected one of 'plain', 'prompt'")])
def test_what_a_library_cannot_be_asked_is_refused(defaults, settings, told):
    from lab.grid import check_point
    s = {**defaults, 'measure': 'library', 'condition': 'memory', 'memory_method': 5, 'memory_layers': (),
         'index_heads': HEADS, **settings}
    with pytest.raises(ValueError, match=told):
        check_point(s)


def test_settings_reach_the_task_by_their_names(defaults, monkeypatch):
    seen = []
    monkeypatch.setattr(many_texts, 'measure', lambda model, tokenizer, asked: seen.append(asked))
    s = {**defaults, 'measure': 'library', 'condition': 'memory', 'texts_together': 4, 'num_facts': 2,
         'memory_method': 5, 'memory_layers': (), 'index_heads': HEADS, 'memory_distance': 33,
         'recall_votes': 7, 'max_new_tokens': 9}
    measures.recall_of_a_library(None, None, s)
    asked, = seen
    assert (asked.condition, asked.size, asked.new_tokens, asked.end_ids) == ('memory', 4, 9, ())
    assert (len(asked.library.texts), len(asked.library.questions)) == (4, 2)
    assert asked.asking == Asking(False, '', 33, 7)
    assert asked.reading.index_heads == HEADS


def test_a_run_is_named_by_what_is_in_its_file_and_by_nothing_that_it_does_not_use(defaults, tmp_path):
    path = tmp_path / 'squad.json'
    s = {**defaults, 'measure': 'library', 'condition': 'memory', 'memory_method': 5, 'index_heads': HEADS,
         'squad_file': str(path)}
    path.write_text('one')
    before = run_id(s, '')
    path.write_text('another')
    assert run_id(s, '') != before
    assert run_id({**s, 'recall_votes': 7}, '') != run_id(s, '')
    assert run_id({**s, 'squad_file': 'squad'}, '') != run_id({**s, 'squad_file': 'other'}, '')
    assert run_id({**s, 'recall_neighbours': 1}, '') != run_id(s, '')
    assert run_id({**s, 'everyday': True}, '') != run_id(s, '')
    # runs without are called what they were before there were any
    assert {'recall_neighbours', 'everyday'} <= unused(s)
    facts = {**s, 'measure': 'facts', 'memory_method': 4}
    assert run_id({**facts, 'recall_votes': 7, 'squad_file': '', 'tinyworld': True}, '') == run_id(facts, '')


def test_a_long_text_is_remembered_whole_as_it_stands_in_a_prompt(tokenizer):
    large = tiny_family('llama', vocab_size=tokenizer.n_vocab, block_size=700)
    text = 'Rain falls on the old roof of Taldun. ' * 40
    assert len(tokenizer.encode(text)) > 256
    memory = remembered(large, tokenizer, task('memory'), [text, 'Ida bakes.'])
    assert [entry['text'] for entry in memory.texts] == [text.strip(), 'Ida bakes.']


def test_the_figure_of_abstaining_has_what_each_threshold_recalls(point_of_library):
    fig = abstaining([point_of_library], rows_of([point_of_library]), 'library')
    falsely, rightly = fig.axes[0].lines[0].get_data()
    curve = dict(zip(falsely, rightly))  # of as many falsely the thresholds rise, and the last is kept
    assert (curve[1.0], curve[0.0]) == (1.0, 0.0) and curve[2 / 11] == 0.75 and curve[1 / 11] == 0.5
    mark, = (line for line in fig.axes[0].lines if line.get_marker() == 'o')
    assert mark.get_xydata().tolist() == [[2 / 11, 0.75]]
    assert mark.get_label() == '0.75 at recall_threshold 0.90'


def test_the_figure_of_what_is_recalled_has_it_with_the_text_there_and_taken_out(point_of_library):
    point_of_library['settings']['texts_together'] = 5
    point_of_library['record']['samples'] |= {'recalled': [1, 1, 0, 1], 'recalled_without': [0, 1, 0, 0]}
    fig = recalled([point_of_library], rows_of([point_of_library]), 'library')
    assert [ax.lines[0].get_xydata().tolist() for ax in fig.axes] == [[[5, 0.75]], [[5, 0.25]]]
