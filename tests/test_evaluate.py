"""
The laboratory: measures against their definitions, statistics against formulas, and a sweep that can be killed and goes on.

$ python -m pytest tests/test_evaluate.py
"""
import contextlib
import glob
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import PROMPT, ROOT, slow_pick, tiny_model

import configurator
from lab import experiment, facts, finder, measures, stats
from lab.figures import FIGURES
from load import load_model, tokenizer_of_folder
from memory import PersistentMemory

PRAISE = 'FILE:' + os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')
BLAME = 'FILE:' + os.path.join(ROOT, 'memories', 'tinyworld_cats_blame.txt')
SENTIMENT = ['--start=\nCats are', f'--memory_text={PRAISE}', '--memory_layers=0,2', '--memory_method=3', '--memory_fraction=5',
             '--softmax_scale=1', '--max_new_tokens=6', '--num_seeds=3', '--num_held_out=3', '--memory_select=each']
RECALL = ['--measure=recall', '--start=\nThe mayor of Taldun is', '--answer= Ida', '--memory_text=Taldun has a mayor called Ida Branet.',
          '--memory_layers=0,2', '--memory_method=4', '--softmax_scale=1', '--max_new_tokens=3', '--num_seeds=3', '--num_held_out=3']


def settings_of(*arguments):
    """evaluate.py's settings, as its command line gives them."""
    code = "import json, sys; sys.path.insert(0, sys.argv.pop(1)); import evaluate; print(json.dumps(evaluate.config))"
    out = subprocess.run([sys.executable, '-c', code, ROOT, *arguments], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return {name: tuple(value) if isinstance(value, list) and name != 'grid' else value for name, value in json.loads(out).items()}


@pytest.fixture(scope='module')
def defaults():
    return settings_of()


def records_of(folder):
    with open(os.path.join(folder, 'results.jsonl')) as f:
        return [json.loads(line) for line in f]


def numbers_of(records):
    """What must be the same each time."""
    def kept(record):
        work = {name: value for name, value in record.get('work', {}).items() if name != 'tokens_per_second'}
        return {**{name: record[name] for name in ('samples', 'numbers', 'held_out', 'seeds')}, 'texts': record.get('texts'), 'work': work}
    return {record['id']: kept(record) for record in records}


# ---- measures ----

@pytest.mark.parametrize('select', ['last', 'each'])
def test_the_probability_of_an_answer_is_the_product_of_its_steps(select):
    model = tiny_model()
    memory = PersistentMemory.from_tokens(model, [3, 9, 41, 5, 22, 17], layers=(0, 1))
    model.attach_memory(memory, (0, 1), method=3, memory_fraction=2.0, bookkeeping_fraction=0.1, softmax_scale=1.0, select=select)
    prompt, answer, expected = [3, 17, 5], [44, 9, 12], 1.0
    for n, token in enumerate(answer):
        expected *= model(torch.tensor([prompt + answer[:n]]))[0][0, 0].softmax(-1)[token].item()
    assert measures.answer_probability(model, torch.tensor([prompt]), answer) == pytest.approx(expected, rel=1e-3)


def test_an_answer_is_right_only_as_whole_words():
    for text, right in ((' 4831.', True), (' 4831 people', True), (' 4831', True), (' 48312', False), (' 483', False), ('4831.', False)):
        assert measures.is_right(text, ' 4831') == right


def test_losses_are_those_of_each_document_alone(model):
    documents = [PROMPT, PROMPT[:5], [*PROMPT, 4, 4, 9, 30], PROMPT * 4]  # the last is longer than the context of 32
    for skip in (1, 3):
        for document, (nats, tokens) in zip(documents, measures.losses(model, documents, skip)):
            seen = document[-33:]
            log_probs = model(torch.tensor([seen[:-1]]), targets=torch.tensor([seen[1:]]))[0].log_softmax(-1)[0]
            each = [-log_probs[i - 1, seen[i]].item() for i in range(1, len(seen))]
            first = max(0, skip - 1 - (len(document) - len(seen)))
            assert nats == pytest.approx(sum(each[first:]), rel=1e-4)
            assert tokens == len(each[first:])


def test_distinct_counts_different_n_grams():
    assert measures.distinct([1, 2, 1, 2, 1], 1) == 2 / 5
    assert measures.distinct([1, 2, 1, 2, 1], 2) == 2 / 4
    assert measures.distinct([1, 2, 3], 4) == 1.0


def test_the_score_of_a_sentence_does_not_grow_with_the_length_of_the_text():
    scores = measures.vader_scores(['Cats are nice.', 'Cats are nice. ' * 8])
    assert scores['compound'][1] > scores['compound'][0] + 0.3
    assert scores['sentence_compound'][1] == pytest.approx(scores['sentence_compound'][0])


def test_a_steering_vector_is_a_difference_of_hidden_states_and_is_added_after_its_layer(folder, defaults):
    from transformers import GPT2LMHeadModel
    model, tokenizer = load_model(folder)
    peer = GPT2LMHeadModel.from_pretrained(folder)
    s = {**defaults, 'steering_layer': 1, 'steering_scale': 3.0, 'opposite_text': 'Cats are bad.'}
    vector = measures.steering_vector(model, tokenizer, s, 'Cats are good.')
    means = [peer(torch.tensor([tokenizer.encode('\n' + text)]), output_hidden_states=True).hidden_states[2][0, 1:].mean(0)
             for text in ('Cats are good.', 'Cats are bad.')]
    torch.testing.assert_close(vector, 3 * (means[0] - means[1]), atol=1e-4, rtol=1e-4)

    idx = torch.tensor([tokenizer.encode('\nDogs')])
    handle = peer.transformer.h[1].register_forward_hook(
        lambda block, inputs, out: (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector)
    with torch.no_grad(), measures.steered(model, 1, vector):
        torch.testing.assert_close(model(idx)[0][:, -1], peer(idx).logits[:, -1], atol=1e-3, rtol=1e-3)
    handle.remove()
    torch.testing.assert_close(model(idx)[0][:, -1], peer(idx).logits[:, -1], atol=1e-4, rtol=1e-4)


def test_a_substitute_takes_the_answers_place_at_the_places_named():
    text = 'Rome is old. I love Rome. Rome!'
    assert measures.substituted(text, 'Rome', 'Oslo', ()) == 'Oslo is old. I love Oslo. Oslo!'
    assert measures.substituted(text, 'Rome', 'Oslo', (1,)) == 'Rome is old. I love Oslo. Rome!'
    assert measures.substituted(text, 'Rome', '', (1,)) == text
    for answer, at in (('Paris', ()), ('Rome', (3,)), ('Rome', (-1,))):
        with pytest.raises(ValueError, match='correct answer or substitute_at'):
            measures.substituted(text, answer, 'Oslo', at)


def test_the_model_counts_what_each_row_picks(model, memory):
    settings = dict(memory_fraction=2.0, bookkeeping_fraction=0.1, select='each')
    model.attach_memory(memory, (0,), method=3, softmax_scale=1.0, **settings)
    model(torch.tensor([PROMPT]))
    found = model.picks
    model.detach_memory()
    block, n = model.transformer.h[0], len(PROMPT)
    x = block.ln_1(model.transformer.wte.weight[PROMPT] + model.transformer.wpe.weight[:n])
    q, k, _ = (y.view(n, 2, 8).transpose(0, 1) for y in block.attn.c_attn(x).split(16, dim=-1))
    expected = 0
    for h in range(2):
        for i in range(n):
            s = torch.softmax(q[h, i] @ k[h, :i + 1].T / math.sqrt(8), dim=0)
            expected += sum(slow_pick(s[j].item(), j, i + 1, 2.0, 0.1) for j in range(i + 1))
    assert found == {0: expected}
    assert expected > 0


def test_held_out_documents_are_on_other_subjects(defaults):
    for text, absent in (('Cats are good.', r'\bcats\b'), ('Taldun is a city in Norland.', r'\b(taldun|norland)\b')):
        documents = measures.held_out_texts({**defaults, 'num_held_out': 30}, text)
        assert len(documents) == 30
        assert not any(re.search(absent, document.lower()) for document in documents)


def test_the_text_in_the_prompt_costs_nothing_of_the_held_out_documents(folder, defaults):
    model, tokenizer = load_model(folder)
    plain = measures.damage(model, tokenizer, {**defaults, 'num_held_out': 4}, '', 'Cats are good.')
    behind = measures.damage(model, tokenizer, {**defaults, 'num_held_out': 4}, '\nCats are good.', 'Cats are good.')
    assert plain['tokens'] == behind['tokens']
    assert plain['nats'] != behind['nats']


def test_the_wrong_answer_of_a_fact_answers_the_same_question_elsewhere():
    for fact in facts.unseen_facts(7, 40):
        assert fact.other != fact.answer
        assert fact.answer.strip().isdigit() == fact.other.strip().isdigit()
        assert fact.answer in fact.paragraph
        assert fact.answer.strip() in facts.answering_sentence(fact)


def test_the_sentence_alone_is_the_one_that_answers():
    fact = facts.Fact('\nFishermen founded Londia in 1267. The river Notun runs through Londia. Londia is old.',
                      '\nThe city on the river Notun is', ' Londia', ' Brana')
    assert facts.answering_sentence(fact) == 'The river Notun runs through Londia.'


def test_only_one_paragraph_of_a_memory_says_what_a_question_names(defaults):
    s = {**defaults, 'num_facts': 60, 'texts_together': 300}
    (asked, texts), = facts.groups_of_texts(s)
    assert (len(asked), len(texts)) == (60, 300)
    for n, fact in enumerate(facts.unseen_facts(s['seed'], 60)):
        named = re.findall(r'[A-Z]\w+|\w+-largest \w+|\d+', fact.question.split(' ', 1)[1])  # the first word is no name
        holding = [i for i, text in enumerate(texts) if all(name in text for name in named)]
        assert n in holding
        assert len(holding) == 1 or not named or fact.question.split(' ', 1)[0].strip() in fact.paragraph, (fact, holding)
    assert [len(texts) for _, texts in facts.groups_of_texts({**s, 'num_facts': 3, 'texts_together': 2})] == [2, 2]


def test_filler_fits_the_distance(folder, defaults):
    tokenizer = tokenizer_of_folder(folder)
    for distance in (0, 30, 90):
        text = facts.filler(tokenizer, {**defaults, 'distance': distance}, 1)
        ids = tokenizer.encode(text) if text else []
        assert distance - 30 < len(ids) <= distance


def test_look_ups_are_those_of_the_step_after_the_text(folder, defaults):
    model, tokenizer = load_model(folder)
    s = {**defaults, 'measure': 'look_ups', 'start': '\nCats are', 'memory_text': PRAISE, 'memory_layers': (0, 2), 'memory_fraction': 2.0,
         'memory_method': 1, 'softmax_scale': 1.0, 'max_new_tokens': 8, 'bookkeeping_fraction': 0.0, 'memory_k': 3}
    found = measures.rounded(measures.look_ups(model, tokenizer, s))
    idx = tokenizer.encode('\nCats are')
    assert found['numbers']['context_tokens'] == len(idx) + 7
    for layer in (0, 2):
        many = [r for r in found['look_ups'] if r['layer'] == layer]
        assert found['shares'][layer] == pytest.approx(len(many) / (2 * (len(idx) + 7)), rel=1e-5)
    assert all(len(r['ids']) == len(r['tokens']) == 3 for r in found['look_ups'])
    assert found['look_ups'][0]['token'] == '\n'


# ---- points and their names ----

def test_a_grid_is_all_combinations_of_each_of_its_dictionaries(defaults):
    grid = [{'memory_k': [1, 2], 'memory_layers': [(0,), (3, 4, 5)]}, {'name': 'soft', 'softmax_scale': [0.01], 'memory_fraction': [1, 5]}]
    config = {**defaults, 'memory_text': 'x', 'opposite_text': 'y', 'grid': grid}
    points = experiment.points_of(config)
    assert [point['label'] for point in points] == [
        'plain model', 'text in the prompt', 'memory of the opposite text', 'k 1, layers 0', 'k 1, layers 3-5', 'k 2, layers 0',
        'k 2, layers 3-5', 'soft: MF 1', 'soft: MF 5']
    assert points[-1]['settings']['softmax_scale'] == 0.01
    assert points[-1]['settings']['memory_fraction'] == 5.0
    assert points[3]['settings']['memory_layers'] == (0,)
    assert [point['panel'] for point in points] == [-1, -1, -1, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(('grid', 'message'), [
    ([{'memory_kk': [1]}], 'memory_kk, which is no setting: did you mean memory_k'),
    ([{'memory_k': 1}], 'expected a dictionary of lists'), ([{'memory_k': []}], 'expected a dictionary of lists'),
    ([{'memory_k': ['many']}], "memory_k was given 'many'"), ([{'init_from': ['gpt2']}], 'the same in all runs'),
    ([{'condition': ['plein']}], "condition is 'plein'"), ([{'condition': ['opposite']}], 'needs opposite_text'),
    ([{5: [1]}], 'expected a dictionary of lists'), ([{'memory_layers': [()]}], 'nothing would be read'),
    ([{'distance': [-5]}], 'distance -5'), ([{'num_seeds': [0]}], '1 or more'),
    ([{'name': 'x', 'memory_k': [1]}, {'name': 'x', 'memory_k': [2]}], "would call 'x'"),
    ([{'measure': ['recall']}], 'the same in all runs')])
def test_a_grid_that_cannot_run_is_refused_before_anything_runs(defaults, grid, message):
    with pytest.raises(ValueError, match=message):
        experiment.points_of({**defaults, 'memory_text': 'x', 'grid': grid})


def test_the_name_of_a_run_is_a_hash_of_what_its_numbers_depend_on(defaults, tmp_path):
    file = tmp_path / 'text.txt'
    file.write_text('Cats.')
    s = {**defaults, 'memory_text': f'FILE:{file}', 'condition': 'memory'}
    name = experiment.run_id(s, 'weights')
    assert name == experiment.run_id({**s, 'out_dir': 'elsewhere', 'threads': 3, 'memory_text': 'Cats.'}, 'weights')
    assert len({name, experiment.run_id(s, 'other weights'), experiment.run_id({**s, 'memory_k': 7}, 'weights'),
                experiment.run_id({**s, 'seeds': (1, 2)}, 'weights'), experiment.run_id({**s, 'memory_text': 'Dogs.'}, 'weights')}) == 5
    file.write_text('Dogs.')
    assert name != experiment.run_id(s, 'weights')
    plain = {**s, 'condition': 'plain'}
    assert experiment.run_id(plain, 'weights') == experiment.run_id({**plain, 'memory_k': 7}, 'weights')
    assert experiment.run_id(s, 'weights') == experiment.run_id({**s, 'steering_scale': 7.0, 'opposite_text': 'Dogs.'}, 'weights')
    steering = {**s, 'condition': 'steering'}
    assert experiment.run_id(steering, 'weights') != experiment.run_id({**steering, 'steering_scale': 7.0}, 'weights')


# ---- a sweep ----

def test_an_experiment_writes_its_table_its_numbers_and_its_figure_and_runs_once(run, tmp_path):
    arguments = [*SENTIMENT, f'--out_dir={tmp_path}', '--figure=boxes', '--show_texts=1', f'--opposite_text={BLAME}', '--steering_scale=2',
                 '--unrelated_text=Trains.', '--steering_layer=1', "--grid=[{'memory_k': [1, 5]}]", '--json=True',
                 f'--publish_dir={tmp_path}/assets']
    code, out, _ = run('evaluate.py', *arguments)
    assert code == 0
    labels = ['plain model', 'text in the prompt', 'memory of an unrelated text', 'memory of the opposite text', 'steering vector', 'k 1',
              'k 5']
    assert list(json.loads(out.splitlines()[-1])['rows']) == labels
    with open(tmp_path / 'evaluate' / 'summary.md') as f:
        summary = f.read()
    assert all(f'| {label} |' in summary for label in labels)
    assert 'seed 1337, k 5:' in summary
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        rows = json.load(f)['rows']
    records = records_of(tmp_path / 'evaluate')
    assert len(records) == len(labels)
    by_id = {record['id']: record for record in records}
    for row in rows:
        compounds = by_id[row['id']]['samples']['compound']
        assert row['compound']['median'] == pytest.approx(np.median(compounds), abs=1e-5)
        paired = np.subtract(compounds, by_id[rows[0]['id']]['samples']['compound'])
        assert row['effect']['value'] == pytest.approx(np.median(paired), abs=1e-5)
    assert rows[0]['held_out']['value'] == 1.0
    assert records[0]['versions']['torch'] == torch.__version__
    assert sorted(os.listdir(tmp_path / 'assets')) == ['evaluate.json', 'evaluate.md', 'evaluate.png']
    assert os.path.getsize(tmp_path / 'evaluate' / 'figure.png') < 150_000

    assert run('evaluate.py', *arguments)[0] == 0
    assert records_of(tmp_path / 'evaluate') == records


@pytest.mark.parametrize('arguments', [RECALL, [*RECALL, '--measure=facts', '--num_facts=3', '--num_seeds=2'],
                                       [*RECALL, '--substitute= Vera', '--figure=bars']])
def test_recall_counts_right_answers_beside_its_controls(run, tmp_path, arguments):
    code, out, err = run('evaluate.py', *arguments, f'--out_dir={tmp_path}', '--json=True',
                         '--opposite_text=Taldun has a mayor called Vera.')
    assert code == 0, err
    rows = json.loads(out.splitlines()[-1])['rows']
    assert {'plain model', 'text in the prompt', 'memory of the opposite text', 'memory'} <= rows.keys()
    for record in records_of(tmp_path / 'evaluate'):
        assert len(record['samples']['right']) == 3
        assert all(0 <= right <= 1 for right in record['samples']['right'])
        probability = record['numbers'].get('probability', record['samples'].get('probability'))
        assert all(0 <= p <= 1 for p in (probability if isinstance(probability, list) else [probability]))


def test_a_half_written_last_line_is_repaired_and_a_damaged_one_named(run, tmp_path):
    arguments = [*SENTIMENT, f'--out_dir={tmp_path}']
    run('evaluate.py', *arguments)
    path = tmp_path / 'evaluate' / 'results.jsonl'
    whole = path.read_bytes()
    before = numbers_of(records_of(tmp_path / 'evaluate'))
    path.write_bytes(whole[:-40])
    assert run('evaluate.py', *arguments)[0] == 0
    assert numbers_of(records_of(tmp_path / 'evaluate')) == before
    path.write_bytes(b'{"id":' + whole[5:])
    code, _, err = run('evaluate.py', *arguments)
    assert (code, err.count('\n')) == (1, 1)
    assert 'results.jsonl, line 1 is damaged: remove that line' in err


def test_two_sweeps_do_not_write_one_file(run, tmp_path):
    held = experiment.Results(str(tmp_path / 'evaluate' / 'results.jsonl'))
    code, _, err = run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}')
    assert (code, err.count('\n')) == (1, 1)
    assert 'is being written by another evaluate.py' in err
    held.file.close()


def test_a_full_disk_loses_no_run_that_was_done(tmp_path):
    results = experiment.Results(str(tmp_path / 'out' / 'results.jsonl'))
    results.add({'id': 'first'})
    results.file = open('/dev/full', 'wb')
    with pytest.raises(OSError, match='No space left'):
        results.add({'id': 'second'})
    assert results.records.keys() == {'first'}
    assert records_of(tmp_path / 'out') == [{'id': 'first'}]
    with contextlib.suppress(OSError):
        results.file.close()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--figure=bars'], "figure is 'bars', expected one of 'auto', '', 'boxes', 'lines' for measure 'sentiment'"),
    (['--memory_text=FILE:EMPTY'], 'the text to remember is empty'), (['--held_out_text=FILE:EMPTY'], 'held_out_text is empty'),
    (['--threads=-1'], 'threads is -1'), (['--steering_scale=1e400'], 'steering_scale inf'),
    (['--memory_layers=()'], 'memory_layers is empty'),
    (['--steering_layer=9', '--steering_scale=1', '--opposite_text=Dogs.'], 'steering_layer holds 9'),
    (['--find=answer'], "find is 'answer'"),
    (["--grid=[{'memory_layers': [(0,), (7,)]}]"], "memory_layers holds 7 for 'layers 7'"),
    (['--measure=recall', '--answer=Ida'], 'a space included'), (['--engine=cloud'], "engine is 'cloud'"),
    (['--measure=recall', '--answer= Ida', '--substitute= Eva', '--memory_text=', '--memory_file=x'], 'substitute stands in a text')])
def test_what_cannot_be_measured_is_one_line(run, tmp_path, arguments, message):
    (tmp_path / 'empty.txt').write_text(' ')
    arguments = [argument.replace('EMPTY', str(tmp_path / 'empty.txt')) for argument in arguments]
    code, _, err = run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}', *arguments)
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith('runs: ')]
    assert (code, len(lines)) == (1, 1), err
    assert message in lines[0]


def test_a_substitute_is_compared_with_how_often_the_plain_model_says_it(run, tmp_path):
    arguments = [*RECALL, '--num_seeds=8', f'--out_dir={tmp_path}', '--memory_text=Ida is the mayor.', '--substitute= Vera']
    assert run('evaluate.py', *arguments)[0] == 0
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        row = json.load(f)['rows'][-1]
    record = records_of(tmp_path / 'evaluate')[-1]
    expected = np.mean(record['samples']['substitute_right']) - np.mean(record['samples']['substitute_plain'])
    assert row['substitute_effect']['value'] == pytest.approx(expected)
    plain = records_of(tmp_path / 'evaluate')[0]
    assert record['samples']['substitute_plain'] == [int(measures.is_right(text, ' Vera')) for text in plain['texts']]


def start_sweep(folder, out_dir, *arguments):
    """evaluate.py in a process of its own, over ten points."""
    grid = f"--grid=[{{'memory_k': {list(range(1, 11))}}}]"
    command = [sys.executable, os.path.join(ROOT, 'evaluate.py'), *SENTIMENT, f'--init_from={folder}', f'--out_dir={out_dir}', grid,
               '--threads=1', *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope='module')
def uninterrupted(folder, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp('uninterrupted')
    sweep = start_sweep(folder, out_dir)
    assert sweep.communicate()[1].count('Traceback') == 0
    return numbers_of(records_of(out_dir / 'evaluate'))


def wait_for(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, 'it never happened'
        time.sleep(0.02)


def test_a_sweep_that_was_killed_goes_on_and_gives_the_same_numbers(folder, tmp_path, uninterrupted):
    sweep = start_sweep(folder, tmp_path, '--max_new_tokens=6')
    path = tmp_path / 'evaluate' / 'results.jsonl'
    wait_for(lambda: path.exists() and path.read_bytes().count(b'\n') >= 3)
    sweep.kill()
    sweep.communicate()
    done = path.read_bytes().count(b'\n')
    assert 3 <= done < 12
    start_sweep(folder, tmp_path).communicate()
    assert numbers_of(records_of(tmp_path / 'evaluate')) == uninterrupted


def parent(pid):
    with open(f'/proc/{pid}/stat') as f:
        return int(f.read().rpartition(')')[2].split()[1])


def ray_workers(sweep):
    """Processes that run one of this sweep's tasks now."""
    found = []
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        with contextlib.suppress(OSError), open(path) as f:
            if f.read().startswith('ray::run'):
                pid = line = int(path.split('/')[2])
                while line not in (1, 0, sweep):
                    line = parent(line)
                found += [pid] * (line == sweep)
    return found


@pytest.mark.slow
def test_ray_gives_the_same_numbers_though_a_worker_is_killed(folder, tmp_path, uninterrupted):
    pytest.importorskip('ray', reason='Ray is not installed: pip install -r requirements-ray.txt')
    sweep = start_sweep(folder, tmp_path, '--engine=ray')
    path, seen = tmp_path / 'evaluate' / 'results.jsonl', set()

    def one_of_two_is_killed_at_work():
        assert sweep.poll() is None, sweep.communicate()[1]
        working = ray_workers(sweep.pid)
        seen.update(working)
        if len(seen) < 2 or not working or not path.exists() or path.stat().st_size == 0:
            return False
        os.kill(working[0], signal.SIGKILL)
        return True

    wait_for(one_of_two_is_killed_at_work)
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    assert numbers_of(records_of(tmp_path / 'evaluate')) == uninterrupted
    assert len(seen) >= 2


def test_runs_tables_and_figures_are_logged_without_a_network(run, tmp_path, monkeypatch):
    import wandb
    logged = []

    class Run:
        log = staticmethod(logged.append)

    monkeypatch.setattr(wandb, 'init', lambda **given: Run)
    monkeypatch.setattr(wandb, 'finish', lambda: None)
    assert run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}', '--wandb_log=True', '--figure=boxes', '--controls=False')[0] == 0
    assert {'compound', 'perplexity', 'held_out_perplexity'} <= logged[0].keys()
    assert logged[-1].keys() == {'table', 'figure'}
    assert [row[0] for row in logged[-1]['table'].data] == ['memory']


# ---- the finder ----

def test_the_finder_ranks_within_the_bound_and_its_config_runs(run, tmp_path):
    arguments = [*SENTIMENT, '--find=positive', f'--opposite_text={BLAME}', f'--out_dir={tmp_path}', '--memory_layers=()',
                 '--max_damage=1.02', "--grid=[{'residual_fraction': [0.1, 0.9]}]"]
    code, out, err = run('evaluate.py', *arguments)
    assert code == 0, err
    records = {record['id']: record for record in records_of(tmp_path / 'evaluate')}
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        rows = json.load(f)['rows']
    plain = records[rows[0]['id']]
    tried = [row for row in rows if row['panel'] == 0]
    assert len(tried) >= 3 + 6  # single layers, single heads
    within = [stats.perplexity(**records[row['id']]['held_out']) / stats.perplexity(**plain['held_out']) <= 1.02 for row in tried]
    assert within == sorted(within, reverse=True)
    scores = [np.mean(records[row['id']]['samples']['sentence_compound']) for row, fine in zip(tried, within) if fine]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / 'evaluate' / 'figure.png').exists()
    best = tmp_path / 'evaluate' / 'best.py'
    assert 'fresh seeds' in best.read_text()
    code, out, err = run('sample.py', str(best), '--num_samples=1')
    assert code == 0, err


def test_the_map_shows_what_each_head_does_alone():
    def point(stage, varied, compound, nats):
        return {'stage': stage, 'varied': varied, 'record': {'numbers': {}, 'samples': {'sentence_compound': [compound]},
                                                             'held_out': {'nats': [nats], 'tokens': [10]}}}

    points = [point('control', {}, 0.1, 10.0), point('head', {'memory_layers': (1,), 'memory_heads': (0,)}, 0.4, 11.0),
              point('layer', {'memory_layers': (0,)}, -0.2, 10.0), point('pair', {'memory_layers': (0, 1)}, 0.9, 10.0)]
    effect, damage = finder.maps(points, 'positive', 2, 2)
    assert effect[1, 0] == pytest.approx(0.3)
    assert effect[0, 2] == pytest.approx(-0.3)
    assert damage[1, 0] == pytest.approx(100 * (math.exp(0.1) - 1))
    assert np.isnan(effect[0, 0])


# ---- the configs ----

CONFIGS = sorted(os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, 'config', '[sw]*', '*.py')))


def test_every_table_and_figure_of_the_writeup_has_its_config_for_both_models():
    names = {os.path.basename(path) for path in CONFIGS}
    for name in [*(f'table{n}' for n in (1, 2, 3, 4)), *(f'figure{n:02}' for n in range(2, 15))]:
        assert {f'{name}.py', f'tinyworld_{name}.py'} <= names


def config_of(path, defaults):
    """The settings that a config file leads to."""
    settings = {**defaults, **configurator.read_config(os.path.join(ROOT, path), defaults)}
    return {name: settings[name] for name in defaults}


@pytest.mark.parametrize('path', CONFIGS)
def test_the_grid_of_an_experiment_can_run_and_its_figure_fits(path, defaults, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = config_of(path, defaults)
    assert config['figure'] in FIGURES[config['measure']]
    assert len(experiment.points_of(config)) >= max(1, len(config['grid']))
    assert config['num_seeds'] >= 100 or config['measure'] == 'facts'


@pytest.mark.parametrize('path', CONFIGS)
def test_the_experiment_runs(path, run, tmp_path, monkeypatch, request, defaults):
    """With one value for each setting of its grid, and only a seed."""
    monkeypatch.chdir(ROOT)
    init_from = os.path.join(ROOT, 'assets', 'tinyworld') if 'tinyworld' in path or 'study' in path else request.getfixturevalue('gpt2')
    grid = [{name: values if name == 'name' else values[:1] for name, values in axes.items()} for axes in config_of(path, defaults)['grid']]
    short = ['--num_seeds=1', '--num_held_out=1', '--num_facts=1', f'--grid={grid}', '--controls=False', '--max_new_tokens=2']
    code, _, err = run('evaluate.py', path, *short, f'--out_dir={tmp_path}', init_from=init_from)
    assert code == 0, err
    name = os.path.basename(path)[:-3]
    assert {'summary.md', 'summary.json', 'results.jsonl', 'figure.png'} == set(os.listdir(tmp_path / name))
