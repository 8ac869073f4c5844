"""
Two rows of a record against each other.

$ python -m pytest tests/test_compare.py
"""
import json

import pytest

from lab.compare import compare, main

ROWS = [{'label': 'a', 'scores': [1, 1, 1, 1, 1, 0]}, {'label': 'b', 'scores': [0, 0, 0, 0, 0, 0]},
        {'label': 'c', 'scores': [0.5, 0.2, 0.4, 0.1, 0.3, 0.6]}, {'label': 'd', 'scores': []},
        {'label': 'e'}]


def test_pairs_are_tested_as_a_table_is_and_corrected_together():
    (_, by, test, p), = compare(ROWS, [('a', 'b')])
    assert (by['value'], test) == (pytest.approx(5 / 6), 'exact McNemar')
    assert p == pytest.approx(2 / 2**5)  # five of five to one side
    both = compare(ROWS, [('a', 'b'), ('c', 'b')])
    assert [test for *_, test, _ in both] == ['exact McNemar', 'sign flips']
    assert [p for *_, p in both] == pytest.approx([2 / 2**5, 2 / 2**5])  # the smaller, 2 / 2**6, twice


def test_it_is_a_command(tmp_path, capsys):
    path = tmp_path / 'record.json'
    path.write_text(json.dumps({'rows': ROWS}))
    main([str(path), 'a', 'b'])
    by = 'mean of pairs +0.833 (+0.500, +1.000; 95 %)'
    assert capsys.readouterr().out == f'a, less b: {by}, exact McNemar, p 0.062\n'


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'expected a record'), (['a'], 'expected a record'), (['a', 'b'], 'pairs of its labels'),
    (['x', 'b'], "no row 'x' with scores: name one of 'a', 'b', 'c'"),
    (['a', 'e'], "no row 'e' with scores")])
def test_wrong_labels_are_named(arguments, message, tmp_path):
    path = tmp_path / 'record.json'
    path.write_text(json.dumps({'rows': ROWS}))
    with pytest.raises(ValueError, match=message):
        main([str(path), *arguments] if arguments != ['a', 'b'] else arguments)
