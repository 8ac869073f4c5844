"""
An experiment: its points and their names, and a sweep that can be killed and goes on.

$ python -m pytest tests/test_experiment.py
"""
import contextlib
import functools
import glob
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from conftest import ROOT, tiny_model
from lab_settings import RECALL, SENTIMENT, numbers_of, records_of

import configurator
from lab import grid, rows, runs, scores
from lab.figures import FIGURES
from memory import PersistentMemory


class Tokens:
    """A tokenizer's name, where nothing is encoded."""
    name = 'tokens'


# ---- points and their names ----

def test_a_grid_is_all_combinations_of_each_of_its_dictionaries(defaults):
    axes = [{'memory_k': [1, 2], 'memory_layers': [(0,), (3, 4, 5)]},
            {'name': 'soft', 'softmax_scale': [0.01], 'memory_fraction': [1, 5]}]
    config = {**defaults, 'memory_text': 'x', 'opposite_text': 'y', 'grid': axes}
    points = grid.points_of(config)
    assert [point['label'] for point in points] == [
        'plain model', 'text in the prompt', 'memory of the opposite text', 'k 1, layers 0',
        'k 1, layers 3-5', 'k 2, layers 0', 'k 2, layers 3-5', 'soft: MF 1', 'soft: MF 5']
    assert points[-1]['settings']['softmax_scale'] == 0.01
    assert points[-1]['settings']['memory_fraction'] == 5.0
    assert points[3]['settings']['memory_layers'] == (0,)
    assert [point['panel'] for point in points] == [-1, -1, -1, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(('axes', 'message'), [
    ([{'memory_kk': [1]}], 'memory_kk, which is no setting: did you mean memory_k'),
    ([{'memory_k': 1}], 'expected a dictionary of lists'),
    ([{'memory_k': []}], 'expected a dictionary of lists'),
    ([{'memory_k': ['many']}], "memory_k was given 'many'"),
    ([{'init_from': ['gpt2']}], 'the same in all runs'),
    ([{'condition': ['plein']}], "condition is 'plein'"),
    ([{'condition': ['opposite']}], 'needs opposite_text'),
    ([{5: [1]}], 'expected a dictionary of lists'), ([{'memory_layers': [()]}], 'nothing would be read'),
    ([{'distance': [-5]}], 'distance is -5'), ([{'num_seeds': [0]}], '1 or more'),
    ([{'temperature': [0.8, 0]}], 'temperature is 0.0'), ([{'top_k': [-1]}], 'top_k -1'),
    ([{'seed': [2**32]}], r'2\*\*32 - 1'), ([{'seed': [-1]}], 'seed -1 is out of range'),
    ([{'seeds': [(1, 2**32 + 1)]}], r'2\*\*32 - 1'), ([{'seeds': [(1, 2, 1)]}], 'seeds holds 1 twice'),
    ([{'answer': [' x']}], "measure 'sentiment' scores no answers"),
    ([{'name': 'x', 'memory_k': [1]}, {'name': 'x', 'memory_k': [2]}], "would call 'x'"),
    ([{'measure': ['recall']}], 'the same in all runs')])
def test_a_grid_that_cannot_run_is_refused_before_anything_runs(defaults, axes, message):
    with pytest.raises(ValueError, match=message):
        grid.points_of({**defaults, 'memory_text': 'x', 'grid': axes})


def test_the_name_of_a_run_is_a_hash_of_what_its_numbers_depend_on(defaults, tmp_path):
    file = tmp_path / 'text.txt'
    file.write_text('Cats.')
    s = {**defaults, 'memory_text': f'FILE:{file}', 'condition': 'memory'}

    def name_of(weights='weights', **changes):
        return runs.run_id({**s, **changes}, weights)

    name = name_of()
    assert name == name_of(out_dir='elsewhere', threads=3, memory_text='Cats.')
    assert len({name, name_of('other weights'), name_of(memory_k=7), name_of(seeds=(1, 2)),
                name_of(memory_text='Dogs.')}) == 5
    assert name == name_of(steering_scale=7.0, opposite_text='Dogs.')
    assert name_of(condition='plain') == name_of(condition='plain', memory_k=7)
    assert name_of(condition='steering') != name_of(condition='steering', steering_scale=7.0)
    file.write_text('Dogs.')
    assert name != name_of()


def test_the_layers_of_a_memory_of_another_model_are_not_what_is_complained_of(defaults, tmp_path):
    tokenizer, other = Tokens(), tiny_model(seed=1, n_layer=12)
    path = str(tmp_path / 'other.safetensors')
    PersistentMemory.from_tokens(other, [3, 9, 41], layers=(9,), tokenizer=tokenizer.name).save(path)
    config = {**defaults, 'memory_file': path, 'memory_layers': (9,)}
    with pytest.raises(ValueError, match=r'other.safetensors.* written by .* n_layer 12'):
        grid.check_model(grid.points_of(config), tiny_model(), tokenizer)
    config |= {'memory_text': 'x', 'memory_file': '', 'init_from': 'small'}
    with pytest.raises(ValueError, match="memory_layers holds 9 .* has 3, from 0 to 2: set memory_l"):
        grid.check_model(grid.points_of(config), tiny_model(), tokenizer)


def test_a_question_that_is_scored_for_its_sentiment_is_told(defaults):
    for start in ('\nThe mayor of Taldun is', 'Q: Who?\nA:', 'Where is Taldun? ', '\nThe river was called'):
        assert "for that give measure 'recall'" in grid.note_on({**defaults, 'start': start})
        assert grid.note_on({**defaults, 'start': start, 'measure': 'recall'}) == ''
    for start in ('\n', '\nCats are', '\nCats are horrible', '\nThis'):
        assert grid.note_on({**defaults, 'start': start}) == ''


def test_the_plain_model_beside_a_chat_is_that_of_the_same_chat(defaults):
    def point(condition, **changes):
        return {'settings': {**defaults, 'condition': condition, **changes}, 'record': {'seeds': [1]}}

    plain = [point('plain'), point('plain', chat=True), point('plain', chat=True, system='x')]
    for one in plain:
        assert rows.plain_of({**one, 'settings': {**one['settings'], 'condition': 'memory'}},
                             plain) is one['record']


# ---- a sweep ----

@pytest.mark.parametrize('arguments', [[], ['--measure=facts', '--num_facts=3', '--num_seeds=2'],
                                       ['--substitute= Vera', '--figure=bars']])
def test_recall_counts_right_answers_beside_its_controls(run, tmp_path, arguments):
    opposite = '--opposite_text=Taldun has a mayor called Vera.'
    arguments = [*RECALL, *arguments, opposite, f'--out_dir={tmp_path}', '--json=True']
    code, out, err = run('evaluate.py', *arguments)
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
    held = runs.Results(str(tmp_path / 'evaluate' / 'results.jsonl'))
    code, _, err = run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}')
    assert (code, err.count('\n')) == (1, 1)
    assert 'is being written by another evaluate.py' in err
    held.file.close()


def test_a_full_disk_loses_no_run_that_was_done(tmp_path):
    results = runs.Results(str(tmp_path / 'out' / 'results.jsonl'))
    results.add({'id': 'first'})
    results.file = open('/dev/full', 'wb')
    with pytest.raises(OSError, match='No space left'):
        results.add({'id': 'second'})
    assert results.records.keys() == {'first'}
    assert records_of(tmp_path / 'out') == [{'id': 'first'}]
    with contextlib.suppress(OSError):
        results.file.close()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--figure=bars'], "figure is 'bars', expected one of 'auto', '', 'boxes', 'lines' for measure 'sent"),
    (['--memory_text=FILE:EMPTY'], 'the text to remember is empty'),
    (['--held_out_text=FILE:EMPTY'], 'held_out_text is empty'),
    (['--threads=-1'], 'threads is -1'), (['--steering_scale=1e400'], 'steering_scale is inf'),
    (['--answer= Ida'], "answer is ' Ida', but measure 'sentiment' scores no answers"),
    (['--seeds=1,4294967297'], 'seed 4294967297 is out of range'),
    (['--find=positive', '--memory_layers=9'], 'memory_layers holds 9'),
    (['--measure=look_ups', '--condition=prompt'], "condition 'prompt' looks nothing up"),
    (['--unrelated_text= '], "condition 'unrelated' needs unrelated_text"),
    (['--memory_layers=()'], 'memory_layers is empty'),
    (['--steering_layer=9', '--steering_scale=1', '--opposite_text=Dogs.'], 'steering_layer holds 9'),
    (['--find=answer'], "find is 'answer'"),
    (["--grid=[{'memory_layers': [(0,), (7,)]}]"], "memory_layers holds 7 for 'layers 7'"),
    (['--measure=recall', '--answer=Ida'], 'a space included'), (['--engine=cloud'], "engine is 'cloud'"),
    (['--measure=recall', '--answer= Ida', '--substitute= Eva', '--memory_text=', '--memory_file=x'],
     'substitute stands in a text'),
    (['--substitute= Eva'], "substitute is ' Eva', but there is no answer whose place it could take")])
def test_what_cannot_be_measured_is_one_line(run, tmp_path, arguments, message):
    (tmp_path / 'empty.txt').write_text(' ')
    arguments = [argument.replace('EMPTY', str(tmp_path / 'empty.txt')) for argument in arguments]
    code, _, err = run('evaluate.py', *SENTIMENT, f'--out_dir={tmp_path}', *arguments)
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith('runs: ')]
    assert (code, len(lines)) == (1, 1), err
    assert message in lines[0]


def test_a_substitute_without_a_place_in_the_text_is_refused_before_the_sweep(defaults):
    settings = {**defaults, 'measure': 'recall', 'answer': ' Ida', 'memory_text': 'Cats are good.'}
    with pytest.raises(ValueError, match="the answer 'Ida' stands 0 times in the remembered text"):
        grid.points_of({**settings, 'grid': [{'substitute': ['', ' Eva']}]})


def test_a_substitute_is_compared_with_how_often_the_plain_model_says_it(run, tmp_path):
    arguments = [*RECALL, '--num_seeds=8', f'--out_dir={tmp_path}', '--memory_text=Ida is the mayor.',
                 '--substitute= Vera']
    assert run('evaluate.py', *arguments)[0] == 0
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        row = json.load(f)['rows'][-1]
    record = records_of(tmp_path / 'evaluate')[-1]
    samples = record['samples']
    expected = np.mean(samples['substitute_right']) - np.mean(samples['substitute_plain'])
    assert row['substitute_effect']['value'] == pytest.approx(expected)
    plain = records_of(tmp_path / 'evaluate')[0]
    assert samples['substitute_plain'] == [int(scores.is_right(text, ' Vera')) for text in plain['texts']]


def start_sweep(folder, out_dir, *arguments):
    """evaluate.py in a process of its own, over ten points."""
    axes = f"--grid=[{{'memory_k': {list(range(1, 11))}}}]"
    command = [sys.executable, os.path.join(ROOT, 'evaluate.py'), *SENTIMENT, f'--init_from={folder}',
               f'--out_dir={out_dir}', axes, '--threads=1', *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope='module')
def uninterrupted(folder, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp('uninterrupted')
    sweep = start_sweep(folder, out_dir)
    assert sweep.communicate()[1].count('Traceback') == 0
    return numbers_of(records_of(out_dir / 'evaluate'))


def wait_for(condition, seconds=240):  # a busy machine starts a cluster in minutes
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


class FakeRay:
    """Ray's interface, as far as it is used; tasks run when they are got, the newest first."""
    exceptions = types.SimpleNamespace(RayTaskError=type('RayTaskError', (Exception,), {}),
                                       RayError=type('RayError', (Exception,), {}))
    init = shutdown = staticmethod(lambda **given: None)
    cluster_resources = staticmethod(lambda: {'CPU': 64})
    wait = staticmethod(lambda tasks: (tasks[-1:], tasks[:-1]))
    get = staticmethod(lambda task: task())

    @staticmethod
    def remote(function):
        task = types.SimpleNamespace(remote=lambda settings: functools.partial(function, settings))
        return types.SimpleNamespace(options=lambda **given: task)


@pytest.fixture
def ray_points(defaults, folder, monkeypatch):
    """Two points, and a Ray whose workers would name each run otherwise."""
    calls = itertools.count()
    monkeypatch.setitem(sys.modules, 'ray', FakeRay)
    monkeypatch.setattr(runs, 'weights_of', lambda model: f'on machine {next(calls)}')
    settings = {**defaults, 'memory_text': 'Cats are good.', 'init_from': folder, 'memory_layers': (0,),
                'engine': 'ray', 'num_seeds': 1, 'num_held_out': 1, 'max_new_tokens': 2, 'controls': False}
    return grid.points_of({**settings, 'grid': [{'memory_k': [1, 2]}]}), settings


def test_a_worker_only_measures_and_the_ids_are_those_given_here(ray_points, tmp_path):
    points, config = ray_points
    results = runs.Results(str(tmp_path / 'results.jsonl'))
    runs.run_all(points, config, results)
    for point in points:
        assert point['record']['id'] == runs.run_id(point['settings'], 'on machine 0')
        assert point['record']['settings'] == point['settings']
    assert len(records_of(tmp_path)) == 2


def test_a_worker_with_another_model_is_refused(ray_points, tmp_path, monkeypatch):
    points, config = ray_points
    run = runs.run
    monkeypatch.setattr(runs, 'run', lambda settings: {**run(settings), 'fingerprint': 'another'})
    results = runs.Results(str(tmp_path / 'results.jsonl'))
    with pytest.raises(ValueError, match=r"other weights \(another\) than the one here"):
        runs.run_all(points, config, results)
    assert records_of(tmp_path) == []


def test_a_run_that_no_machine_of_a_cluster_can_take_is_refused(ray_points, tmp_path):
    points, config = ray_points
    with pytest.raises(ValueError, match='a run takes 65 CPUs, the cluster has 64: give fewer --threads'):
        runs.run_all(points, {**config, 'threads': 65}, runs.Results(str(tmp_path / 'results.jsonl')))


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


# ---- the configs ----

CONFIGS = sorted(os.path.relpath(path, ROOT) for path in glob.glob(f'{ROOT}/config/[sw]*/*.py'))
# of 24 seeds, as the page on SmolLM2 says
COARSE = 'smollm2_search.py', 'smollm2_search_recall.py', 'smollm2_search_steering.py'


def test_every_table_and_figure_of_the_writeup_has_its_config_for_each_model():
    names = {os.path.basename(path) for path in CONFIGS}
    for name in [*(f'table{n}' for n in (1, 2, 3, 4)), *(f'figure{n:02}' for n in range(2, 15))]:
        assert {f'{name}.py', f'tinyworld_{name}.py', f'smollm2_{name}.py'} <= names


def config_of(path, defaults):
    """The settings that a config file leads to."""
    settings = configurator.read_sources([os.path.join(ROOT, path)], defaults, 'evaluate.py')
    return {name: settings[name] for name in defaults}


@pytest.mark.parametrize('path', CONFIGS)
def test_the_grid_of_an_experiment_can_run_and_its_figure_fits(path, defaults, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = config_of(path, defaults)
    assert config['figure'] in FIGURES[config['measure']]
    assert len(grid.points_of(config)) >= max(1, len(config['grid']))
    of_questions = config['measure'] in ('facts', 'library', 'talk') or config['cases']
    assert config['num_seeds'] >= 100 or of_questions or os.path.basename(path) in COARSE


# a talk wants a chat template, see test_long_talk.py
@pytest.mark.parametrize('path', [path for path in CONFIGS if 'talk' not in path])
def test_the_experiment_runs(path, run, tmp_path, monkeypatch, request, defaults):
    """With one value for each setting of its grid, and only a seed."""
    monkeypatch.chdir(ROOT)
    stands_in = 'narrow_smollm2' if 'smollm2' in path else 'gpt2'
    ours = 'tinyworld' in path or 'study' in path and 'smollm2' not in path
    init_from = os.path.join(ROOT, 'assets', 'tinyworld') if ours else request.getfixturevalue(stands_in)
    config = config_of(path, defaults)
    first = [{name: values if name == 'name' else values[:1] for name, values in axes.items()}
             for axes in config['grid']]
    if 'smollm2' in path:  # thirty layers take a second a point
        first = first[-1:]
    short = ['--num_seeds=1', '--num_held_out=1', '--num_facts=1', f'--grid={first}', '--controls=False',
             '--max_new_tokens=2', '--chat=False',  # tiny models have no template
             f"--cases={config['cases'][:1]}"]
    code, _, err = run('evaluate.py', path, *short, f'--out_dir={tmp_path}', init_from=init_from)
    assert code == 0, err
    name = os.path.basename(path)[:-3]
    assert {'summary.md', 'summary.json', 'results.jsonl', 'figure.png'} == set(os.listdir(tmp_path / name))
