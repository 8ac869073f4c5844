"""
The write-up's experiments run on a model of each family, by other weights and layers alone
(but for methods' "insert", which wants rotary positions).

$ python -m pytest tests/test_writeup.py
"""
import glob
import math
import os

import pytest
from conftest import ROOT, tiny_model
from test_families import hugging_face, ours

import configurator
from lab import grid, measures
from load import tokenizer_of_folder

CONFIGS = sorted(os.path.basename(path) for path in glob.glob(f'{ROOT}/config/writeup/smollm2_*.py'))
FAMILIES = 'gpt2', 'llama', 'mistral', 'qwen2', 'qwen3'


@pytest.fixture(scope='module')
def families():
    """{name: (a random model of three layers, the embedded model's tokenizer)}"""
    tokenizer = tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))
    sizes = {'vocab_size': tokenizer.n_vocab, 'max_position_embeddings': 1024}
    found = {name: ours(hugging_face(model_type=name, **sizes)) for name in FAMILIES[1:]}
    found['gpt2'] = tiny_model(vocab_size=tokenizer.n_vocab, block_size=1024, sharp=8.0)
    return {name: (model, tokenizer) for name, model in found.items()}


def on_three_layers(s):
    """Layers at the same depth, two seeds, of many cases the first, few tokens."""
    layers = tuple(sorted({layer // 10 for layer in s['memory_layers']}))
    return {**s, 'memory_layers': layers, 'steering_layer': s['steering_layer'] // 10, 'num_seeds': 2,
            'cases': s['cases'][:1], 'max_new_tokens': min(2, s['max_new_tokens']), 'num_held_out': 1}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('config', CONFIGS)
def test_an_experiment_runs_on_each_family(config, family, families, defaults, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = configurator.read_sources([f'config/writeup/{config}'], defaults, 'evaluate.py')
    if family == 'gpt2':  # its positions are learned, so that nothing can be inserted
        settings['grid'] = [{key: values for key, values in axes.items()
                             if key not in ('memory_positions', 'memory_distance')}
                            for axes in settings['grid']]
        settings['memory_positions'] = ''
    points = grid.points_of({name: settings[name] for name in defaults})
    for point in {point['panel']: point for point in points}.values():  # the last of each
        check_measured(families[family], on_three_layers(point['settings']))


def check_measured(model, s):
    found = measures.measured(*model, s)
    if s['measure'] == 'look_ups':
        assert found['shares'].keys() == set(s['memory_layers'])
        return
    for name, values in found['samples'].items():
        assert len(values) == (1 if s['cases'] else 2) and all(map(math.isfinite, values)), name
    reads = s['condition'] == 'memory' and (s['bookkeeping_fraction'] < 0.9 or s['memory_fraction'])
    assert not reads or sum(found['work']['searches_per_step'].values()) > 0
