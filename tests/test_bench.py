"""
bench.py measures what it says; how fast is not tested.

$ python -m pytest tests/test_bench.py
"""
import contextlib
import io
import json
import os
import runpy
import sys
import types

import pytest
import torch
from conftest import PROMPT, ROOT, tiny_model
from test_gguf import check_logits, written

from core.cache import Cache
from core.tokenizers import tokenizer_of_folder
from lab import speed_curves, speed_dtypes, speed_peers, speed_setup, speed_start, speed_writing
from lab.made_up import stories
from load import load_model
from model import GPT
from reader import Reading

# one process for a peak, and small squares: without bfloat16 in the processor large ones take minutes
SMALL = ['--stored_tokens=20,30', '--contexts=16,40', '--curve_tokens=10,30', '--repeats=2',
         '--memory_fraction=5.0', '--peaks=plain', '--floor_size=64',
         "--workloads=[{'rows': 1, 'prompt': 16, 'new': 3}, {'rows': 3, 'prompt': 20, 'new': 2}, "
         "{'rows': 1, 'prompt': 900, 'new': 1}]"]


@pytest.fixture(scope='module')
def measured(folder, tmp_path_factory):
    """A whole run: what it printed last, and the folder that it published to."""
    published = tmp_path_factory.mktemp('published')
    out, argv = io.StringIO(), sys.argv
    sys.argv = ['bench.py', f'--models={folder}', f'--publish_dir={published}', *SMALL]
    try:
        with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
            patch.setattr(speed_curves, 'RECALLED', 90)  # room for it beside 16 tokens of 128, not 40
            runpy.run_path(os.path.join(ROOT, 'bench.py'), run_name='__main__')
    finally:
        sys.argv = argv
    return json.loads(out.getvalue().splitlines()[-1]), published


def test_what_is_measured_is_published_with_its_figures_and_the_machine(measured, folder):
    result, published = measured
    name = os.path.basename(folder)
    with open(published / f'{name}.json') as f:
        assert json.load(f) == result
    assert sorted(os.listdir(published)) == [f'{name}.json', f'{name}_curves.png', f'{name}_write.png']
    assert {'device', 'torch_threads', 'torch', 'faiss', 'transformers'} < result['machine'].keys()
    assert result['models'][0]['layers'] == [0, 1]


def test_writing_has_all_contenders_and_their_ratios_are_to_the_right_ones(measured):
    model = measured[0]['models'][0]
    assert [work['prompt'] for work in model['write']] == [16, 20], 'longer ones are left out'
    names = {row['name']: row for row in model['write'][0]['table']}
    assert {'Hugging Face', 'Hugging Face, bfloat16', 'everything again', 'plain', 'plain, bfloat16',
            'plain, int8', 'plain, int4', 'each, method 3, 20, int4',
            'each, method 1, 20', 'each, method 3, 30', 'last, method 3, 20',
            'last, method 2, one layer, 30', 'method 4, 20', 'each, method 3, 20, bfloat16'} < names.keys()
    assert all(0 < row['ms'][1] <= row['ms'][0] <= row['ms'][2] for row in names.values())
    assert names['plain']['of_plain'] == names['Hugging Face']['of_hugging_face'] == 1
    assert names['everything again']['of_again'] == 1
    assert names['Hugging Face, bfloat16']['of_hugging_face_bfloat16'] == 1
    assert names['plain']['searches'] == 0 < names['each, method 3, 20']['searches']
    assert 'Hugging Face' not in {row['name'] for row in model['write'][1]['table']}


def test_a_gguf_file_is_measured_beside_hugging_face_with_the_same_weights(tmp_path):
    setup, merges = types.SimpleNamespace(device='cpu'), {'tokenizer.ggml.merges': ['a b']}
    vocabulary = {'tokenizer.ggml.tokens': ['a', 'b', 'ab', *map(str, range(93))]}
    named = {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2'}
    _, path = written(tmp_path / 'tiny.gguf', more_keys={**named, **vocabulary, **merges})
    with speed_setup.folder_of_model(path, 0) as folder:
        ours, theirs = speed_setup.our_model(folder, setup), speed_setup.their_model(folder, setup)
        assert speed_setup.their_model(folder, setup, 'bfloat16').dtype == torch.bfloat16
        assert tokenizer_of_folder(folder).encode('ab') == [2]
        assert os.path.samefile(os.path.join(folder, speed_setup.GGUF), path)
    check_logits(ours, theirs)
    ours.attach_memory(speed_setup.random_memory(ours, 5, (0,), 0), layers=(0,))  # of grouped heads


def test_llama_cpp_writes_the_same_prompt_with_the_file_where_it_is_installed(tmp_path, monkeypatch):
    idx, work, calls = torch.tensor([[5, 6]]), {'rows': 1, 'prompt': 2, 'new': 3}, []

    class Llama:
        def __init__(self, path, n_ctx, **threads):
            calls.append((os.path.basename(path), n_ctx))

        def reset(self):
            calls.append('reset')

        def generate(self, tokens, top_k, *rest, temp, **more):
            calls.append((tokens, top_k, temp))
            while True:
                calls.append('token')
                yield 1

    monkeypatch.setitem(sys.modules, 'llama_cpp', types.SimpleNamespace(Llama=Llama, __spec__=True))
    assert speed_writing.llama_cpp(tmp_path, idx, work) == {}, 'no GGUF file'
    (tmp_path / speed_setup.GGUF).touch()
    assert speed_writing.llama_cpp(tmp_path, idx, {**work, 'rows': 2}) == {}, 'it writes one row'
    assert speed_writing.llama_cpp(tmp_path, idx, work)['llama.cpp'].take() > 0
    assert calls == [('model.gguf', 5), 'reset', ([5, 6], 200, 0.8), *['token'] * 3]
    monkeypatch.setitem(sys.modules, 'llama_cpp', None)  # as if it were not installed
    assert speed_writing.llama_cpp(tmp_path, idx, work) == {}


def test_curves_count_the_look_ups_of_one_token_alone(measured):
    model = measured[0]['models'][0]
    points = [(row['context'], row['stored_tokens']) for row in model['curves']['context']]
    assert points == [(16, 20), (40, 20)]
    assert [row['stored_tokens'] for row in model['curves']['memory']] == [10, 30]
    assert ['method 5' in row['ms'] for row in model['curves']['context']] == [True, False]
    for row in (row for rows in model['curves'].values() for row in rows):
        assert row['searches']['plain'] == 0
        assert row['searches']['method 4'] == model['n_head'], 'every head of the newest row, and no other'
        assert 0 < row['searches']['each, method 3'] <= 2 * model['n_head']


def test_files_floors_and_searches_are_measured(measured):
    model = measured[0]['models'][0]
    assert [row['stored_tokens'] for row in model['load']['table']] == [90, 20, 30]
    assert model['load']['peak_mb'].keys() == {'plain'}
    assert model['load']['peak_mb']['plain'] > 100
    assert model['build']['plain forward']['of_plain'] == 1
    for row, texts in zip(model['library']['life'], (1, 1)):
        assert (row['texts'], row['stored_tokens']) == (texts, 77 * texts)
        assert all(row[job][0] > 0 for job in ('write', 'open_file', 'open_library', 'append', 'compact'))
    assert all(model['library']['building'][name] > 0 for name in ('build', 'plain', 'of_plain'))
    searched = [(row['stored_tokens'], row['rows']) for row in model['search']]
    assert searched == [(20, 1), (20, 3), (30, 1), (30, 3)]
    assert all(row[way][0] > 0 for row in model['search'] for way in ('faiss', 'stacked', 'chosen'))
    assert model['floors']['float32']['weights_mb'] == 2 * model['floors']['bfloat16']['weights_mb']


def test_what_a_question_costs_by_each_way_is_counted_in_tokens_of_whole_passes(roomy_folder, monkeypatch):
    monkeypatch.setattr(speed_peers, 'NEW_TOKENS', 1)
    model, tokenizer = load_model(roomy_folder)
    setup = types.SimpleNamespace(device='cpu', seed=3, repeats=1, texts=(1, 6), index_heads=((0, 1),))
    table = speed_peers.measure_peers(roomy_folder, setup)
    told, rows = stories('prove', 3, 6), {(row['texts'], row['name']): row for row in table}
    asked = len(tokenizer.encode('\n' + told[0].questions[0].begins))
    text, layers = len(tokenizer.encode('\n' + told[0].text)), model.config.n_layer
    assert len(rows) == len(table) == 12
    for count in (1, 6):
        tokens = {name: row['tokens'] for (texts, name), row in rows.items() if texts == count}
        assert tokens['question alone'] == tokens['method 4, all layers'] == asked
        assert tokens["BM25's text in the prompt"] == asked + text  # which it finds by the name
        # to vote up to the index head's layer, the first; then the header once, and what is behind it
        assert tokens['method 5, its text read lately'] == pytest.approx(asked / layers + asked)
        assert tokens['method 5'] > tokens['method 5, its text read lately'] + 20  # a text
    assert all(row['first_ms'][0] > 0 for row in table)
    kept = {name: row['bytes_a_token'] for (texts, name), row in rows.items() if texts == 6}
    sizes = model.config.n_head * model.config.head_size * 4
    assert kept['question alone'] == 0 and kept['method 4, all layers'] > 2 * layers * sizes
    # a key in int8 and its scale, and a token
    of_keys = kept['method 5'] - kept["BM25's text in the prompt"]
    assert of_keys == pytest.approx(model.config.head_size + 2 + 8)


@pytest.mark.parametrize(('work', 'expected'), [
    ({'rows': 1, 'prompt': 16, 'new': 3}, 8 + 2 * 4), ({'rows': 1, 'prompt': 256, 'new': 3}, 3 + 2),
    ({'rows': 9, 'prompt': 16, 'new': 3}, 1), ({'rows': 9, 'prompt': 256, 'new': 3}, 1 + 1),
    ({'rows': 9, 'prompt': 16, 'new': 3, 'only': 'last'}, 2)])
def test_a_workload_has_the_readings_that_tell_most_of_it(work, expected):
    ways = dict.fromkeys([*speed_writing.MAIN, *'abcd'])
    first = {'rows': 1, 'prompt': 16, 'new': 3}
    setup = types.SimpleNamespace(stored_tokens=(20, 30, 40), workloads=[first])
    found = speed_writing.readings_of(work, ways, setup)
    assert len(found) == len(set(found)) == expected
    assert ('each, method 3', 20) in found


def test_a_walker_reads_its_own_memory_and_leaves_the_model_as_it_was(model, memory):
    idx = torch.tensor([PROMPT])
    before = model(idx)[0]
    reading = Reading(layers=(0,), method=4, k=3, softmax_scale=1.0)
    plain = speed_curves.walker(model, idx, 2, 1)
    reads = speed_curves.walker(model, idx, 2, 1, memory, reading)
    for one in (plain, reads, plain, reads):
        assert one.walk() > 0
    assert (plain.searched, reads.searched) == ([0, 0], [2, 2])
    assert not model.readers
    assert torch.equal(model(idx)[0], before)


def test_the_curve_of_method_5_is_that_of_a_text_recalled_in_front(monkeypatch):
    setup = types.SimpleNamespace(device='cpu', seed=1, repeats=1, memory_layers=(0,), memory_k=2,
                                  index_heads=((1, 0),), memory_fraction=1.0, bookkeeping_fraction=0.5)
    made = []
    monkeypatch.setattr(speed_curves, 'RECALLED', 12)
    monkeypatch.setattr(speed_curves, 'Cache', lambda size: made.append(Cache(size)) or made[-1])
    row = speed_curves.point(tiny_model(vocab_size=300, block_size=64), 10, 5, setup)
    assert row['of_plain']['method 5'] > 0
    assert made[-1].counts.recalled == [[(0, (0,), made[-1].counts.recalled[0][0][2])]]
    assert {rows.size(-2) for rows in made[-1].front.values()} == {12}, 'header and text'


@pytest.mark.parametrize(('wrong', 'message'), [
    ('--parts=write,nothing', 'parts names nothing, expected some of build,load,library,peers,search'),
    ("--workloads=[{'rows': 1}]", 'is not like'),
    ("--workloads=[{'rows': 0, 'prompt': 16, 'new': 1}]", 'with numbers from 1 on'),
    ('--workloads=[]', 'workloads is []'),
    ("--workloads=[{'rows': 'a', 'prompt': 16, 'new': 1}]", 'with numbers from 1 on'),
    ('--repeats=0', 'must be 1 or more'),
    ('--memory_layers=()', 'at least one layer'),
    ('--threads=-1', 'nothing below 0'),
    ('--peaks=nobody', 'peaks names nobody, expected some of Hugging Face,plain,each'),
    ('--models=assets/tinyworld;--contexts=5000', 'no context fits the model'),
    ('--models=nowhere', 'nowhere')])
def test_wrong_settings_are_one_line(run, wrong, message):
    arguments = wrong.replace('assets', os.path.join(ROOT, 'assets')).split(';')
    code, _, err = run('bench.py', *arguments, init_from=None)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_start_is_timed_in_parts_that_make_the_whole(folder):
    found = speed_start.started(str(folder), 1, 'bfloat16')
    parts = {part: found[part] for part in speed_start.PARTS}
    assert min(parts.values()) > 0 and sum(parts.values()) == pytest.approx(found['all'])
    assert found['weights_mb'] == sum(p.numel() for p in GPT.from_pretrained(folder).parameters()) * 2 / 1e6
    assert found['peak_mb'] > 0


def test_what_a_dtype_costs_the_text_is_the_perplexity_of_its_own_logits(roomy_folder, monkeypatch):
    model, _ = load_model(str(roomy_folder), device='cpu')
    ids = [3, 17, 5, 44, 9, 12, 5, 31, 2, 28, 17, 40]
    tokenizer = types.SimpleNamespace(encode=lambda text: ids)
    load = speed_dtypes.load_model
    monkeypatch.setattr(speed_dtypes, 'load_model', lambda *args, **how: (load(*args, **how)[0], tokenizer))
    table = speed_dtypes.measure_dtypes(str(roomy_folder), types.SimpleNamespace(device='cpu'))
    idx = torch.tensor([ids])
    loss = model(idx[:, :-1], targets=idx[:, 1:])[1]
    assert [row['dtype'] for row in table] == ['float32', 'bfloat16', 'int8', 'int4']
    assert table[0]['perplexity'] == pytest.approx(loss.exp().item(), rel=1e-4)
    assert (table[0]['same_likeliest'], table[0]['greedy_equal'], table[0]['greedy']) == (1, 6, 6)
    sizes = [row['weights_mb'] for row in table]
    assert sizes[0] == 2 * sizes[1] > sizes[2] and table[0]['perplexity'] != table[2]['perplexity']
