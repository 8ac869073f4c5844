"""
The finder: ranks, bounds, fresh seeds, the map.

$ python -m pytest tests/test_finder.py
"""
import json
import math

import numpy as np
import pytest
from lab_settings import BLAME, SENTIMENT, records_of

from core.sampling import seed_list
from lab import finder, measures, stats


def test_the_finder_ranks_within_the_bound_and_its_config_runs(run, tmp_path):
    arguments = [*SENTIMENT, '--find=positive', f'--opposite_text={BLAME}', f'--out_dir={tmp_path}',
                 '--memory_layers=()', '--max_damage=1.02', "--grid=[{'residual_fraction': [0.1, 0.9]}]"]
    code, out, err = run('evaluate.py', *arguments)
    assert code == 0, err
    records = {record['id']: record for record in records_of(tmp_path / 'evaluate')}
    with open(tmp_path / 'evaluate' / 'summary.json') as f:
        rows = json.load(f)['rows']
    plain = records[rows[0]['id']]
    tried = [row for row in rows if row['panel'] == 0]
    assert len(tried) >= 3 + 6  # single layers, single heads
    perplexities = [stats.perplexity(**records[row['id']]['held_out']) for row in tried]
    within = [perplexity <= 1.02 * stats.perplexity(**plain['held_out']) for perplexity in perplexities]
    assert within == sorted(within, reverse=True)
    scores = [np.mean(records[row['id']]['samples']['sentence_compound'])
              for row, fine in zip(tried, within) if fine]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / 'evaluate' / 'figure.png').exists()
    best = tmp_path / 'evaluate' / 'best.py'
    searched = {seed for row in rows for seed in records[row['id']]['seeds']}
    again = [record for record in records.values() if searched.isdisjoint(record['seeds'])]
    outcomes = [f"{np.mean(record['samples']['sentence_compound']):+.3f}" for record in again]
    told = best.read_text()
    assert f'On 3 fresh seeds and other held-out text:\n# sentence_compound {outcomes[0]} plain' in told
    assert f'sentence_compound {outcomes[1]} with memory' in told
    assert [record['settings']['condition'] for record in again] == ['plain', 'memory']
    assert all(record['seeds'] == seed_list(1337, 6)[3:] for record in again)
    code, out, err = run('sample.py', str(best), '--num_samples=1')
    assert code == 0, err


def test_fresh_seeds_are_as_many_as_the_search_had_and_none_of_them(defaults):
    for given in ({'num_seeds': 5}, {'num_seeds': 50, 'seed': 4}, {'seeds': (2179, 8932, 7)}):
        config = {**defaults, **given}
        seen, fresh = set(measures.point_seeds(config)), finder.fresh_seeds(config)
        assert len(set(fresh)) == len(seen)
        assert seen.isdisjoint(fresh)


def test_seeds_that_leave_none_fresh_are_refused_before_the_search(defaults):
    config = {**defaults, 'find': 'positive', 'num_seeds': 30_000}
    with pytest.raises(ValueError, match='60000 seeds were asked for'):
        finder.search(config, None, None)  # nothing is run: there are no results to write to


def test_what_was_found_in_a_chat_says_so():
    assert {'start', 'chat', 'system'} <= set(finder.WRITTEN)


def test_the_map_shows_what_each_head_does_alone():
    def point(stage, varied, compound, nats):
        record = {'numbers': {}, 'samples': {'sentence_compound': [compound]},
                  'held_out': {'nats': [nats], 'tokens': [10]}}
        return {'stage': stage, 'varied': varied, 'record': record}

    points = [point('control', {}, 0.1, 10.0),
              point('head', {'memory_layers': (1,), 'memory_heads': (0,)}, 0.4, 11.0),
              point('layer', {'memory_layers': (0,)}, -0.2, 10.0),
              point('pair', {'memory_layers': (0, 1)}, 0.9, 10.0)]
    effect, damage = (np.array(map, float) for map in finder.maps(points, 'positive', 2, 2).values())
    assert effect[1, 0] == pytest.approx(0.3)
    assert effect[0, 2] == pytest.approx(-0.3)
    assert damage[1, 0] == pytest.approx(100 * (math.exp(0.1) - 1))
    assert np.isnan(effect[0, 0])
