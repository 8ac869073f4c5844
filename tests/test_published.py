"""
Published verdicts, derived again: the largest p of the exact McNemar test that published counts allow,
however right and wrong were paired, corrected by Holm within the table.

$ python -m pytest tests/test_published.py
"""
import json
import os

import pytest
from conftest import ROOT

from lab.stats import holm, mcnemar


def largest_p(count, plain, n):
    """Of `count` right answers of n where the plain model has `plain`: the worst of all pairings."""
    found = 0.0
    for both in range(max(0, count + plain - n), min(count, plain) + 1):
        pairs = [(1, 1)] * both + [(1, 0)] * (count - both) + [(0, 1)] * (plain - both)
        pairs += [(0, 0)] * (n - len(pairs))
        found = max(found, mcnemar(*zip(*pairs)))
    return found


def counted(row, name):
    entry = row.get(name)
    return None if entry is None else entry.get('count', round(entry['value'] * entry['n']))


def bounds(name):
    """{a row's label: the largest p}, of right answers, and where there are any of substitutes."""
    with open(os.path.join(ROOT, 'assets', f'{name}.json')) as f:
        rows = json.load(f)['rows']
    plain = next(row for row in rows if row['condition'] == 'plain')
    n, tested = plain['right']['n'], [row for row in rows if row is not plain]
    right = holm([largest_p(counted(row, 'right'), counted(plain, 'right'), n) for row in tested])
    found = dict(zip((row['label'] for row in tested), right))
    said = [row for row in tested if 'substitute_right' in row]
    ps = holm([largest_p(counted(row, 'substitute_right'), counted(row, 'substitute_plain'), n)
               for row in said])
    return found | dict(zip((f"{row['label']}, substitute" for row in said), ps))


@pytest.mark.parametrize(('name', 'recalls', 'fails'), [
    ('writeup/tinyworld_headline_recall', ['text in the prompt', 'method 4, all layers'],
     ['method 2: layers 4']),
    ('writeup/tinyworld_table4', ['method 4', 'method 4, Perdova, substitute'],
     ['method 2', 'method 2, Perdova']),
    ('writeup/tinyworld_figure08', ['method 4: layers 4,5', 'method 4: layers 0-5'], []),
    ('writeup/tinyworld_figure12', ['method 4: substitute_at 0,2,3,4, substitute'],
     ['method 4: substitute_at 0, substitute']),
    ('writeup/tinyworld_figure13',
     ['method 4: substitute Branur, substitute', 'method 4: substitute Heron, substitute'],
     ['method 4: substitute loves, substitute', 'method 2: substitute Stenham, substitute']),
    ('study/methods_facts', ['text in the prompt', 'method 4: TS 0.75, layers 0-5'],
     ['method 1: layers 5, select last', 'method 3: layers 0-5, select each', 'memory of an unrelated text']),
    ('study/stored_tokens', ['texts_together 8, k 128', 'texts_together 8, k 32'],
     ['texts_together 16, k 32']),
    ('study/distance', ['distance 225, condition memory', 'distance 200, condition prompt'],
     ['distance 225, condition prompt'])])
def test_what_the_page_says_recalls_does_by_the_worst_pairing_and_what_fails_does_not(name, recalls, fails):
    found = bounds(name)
    assert all(found[label] < 0.01 for label in recalls)
    assert all(found[label] > 0.05 for label in fails)


@pytest.mark.parametrize('figure', ['09', '10', '11'])
def test_where_the_page_says_that_nothing_recalls_no_memory_does(figure):
    found = bounds(f'writeup/tinyworld_figure{figure}')
    assert [label for label, p in found.items() if p <= 0.05] == ['text in the prompt']
