"""
Statistics against formulas, enumeration, and what chance does.

$ python -m pytest tests/test_stats.py
"""
import itertools
import math

import numpy as np
import pytest

from lab import stats


def test_quartiles_and_intervals_are_those_of_the_formulas():
    values = [0.3, -0.2, 0.9, 0.1, 0.5, 0.7, -0.4]
    q = stats.quartiles(values)
    assert [q['q1'], q['median'], q['q3']] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]).tolist())
    z, p, n = 1.959964, 0.3, 10  # Wilson 1927
    middle = (p + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert stats.wilson(3, 10) == pytest.approx((middle - half, middle + half), abs=1e-4)


def test_a_bootstrap_interval_covers_about_as_often_as_it_says_and_is_the_same_each_time():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        low, high = stats.bootstrap(rng.normal(0, 1, 60))
        hits += low <= 0 <= high
    assert 86 <= hits <= 100
    values = rng.normal(0, 1, 60)
    assert stats.bootstrap(values) == stats.bootstrap(values)
    assert stats.bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert stats.bootstrap([2.0]) == (2.0, 2.0)


def test_an_effect_is_paired_by_seed():
    plain = list(np.linspace(-1, 1, 50))  # a spread that pairing takes away
    effect = stats.difference([x + 0.1 for x in plain], plain, np.median)
    assert effect['value'] == pytest.approx(0.1)
    assert effect['interval'] == pytest.approx((0.1, 0.1))


def test_a_ratio_of_perplexities_weighs_documents_by_their_tokens():
    ratio = stats.perplexity_ratio([20.0, 3.0], [10.0, 2.0], [10, 1])
    expected = stats.perplexity([20.0, 3.0], [10, 1]) / stats.perplexity([10.0, 2.0], [10, 1])
    assert ratio['value'] == pytest.approx(expected)
    assert ratio['value'] == pytest.approx(math.exp(11 / 11))


# ---- tests ----

def all_signs(differences):
    """The share of all choices of signs whose mean is as far from 0, tried one by one in whole numbers."""
    sizes = [round(1000 * abs(d)) for d in differences]
    seen = abs(round(1000 * sum(differences)))
    choices = list(itertools.product((-1, 1), repeat=len(sizes)))
    sums = [abs(sum(sign * size for sign, size in zip(signs, sizes))) for signs in choices]
    return sum(found >= seen for found in sums) / len(choices)


@pytest.mark.parametrize('differences', [
    [0.3, 0.1, 0.2], [0.5, -0.2, 0.1, 0.4], [0.1, 0.1, -0.1, 0.2, 0.3, 0.7], [-0.3, -0.1, -0.2, -0.4, -0.25],
    [0.2, 0.0, 0.3, 0.0, -0.1], [0.1, -0.1], [0.1, 0.2, -0.3], [0.4], [0.2, 0.3, 0.5, 0.1, -0.9, -0.2]])
def test_sign_flips_of_few_differences_are_all_tried(differences):
    assert stats.sign_flips(differences) == pytest.approx(all_signs(differences))


def test_sign_flips_of_many_differences_are_as_the_normal_law_says_and_never_zero():
    rng = np.random.default_rng(5)
    for mean in (0.0, 0.1, 0.25):
        differences = rng.normal(mean, 1, 60)
        z = abs(differences.sum()) / math.sqrt((differences ** 2).sum())  # sums of many are normal
        assert stats.sign_flips(differences) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.015)
    assert 0 < stats.sign_flips([1.0] * 60) < 1e-4
    assert stats.sign_flips(differences) == stats.sign_flips(differences), 'the same draws each time'


def test_differences_of_zero_say_nothing():
    assert stats.sign_flips([0.0] * 40) == 1.0
    some = [0.2, -0.1, 0.3, 0.25]
    assert stats.sign_flips([*some, *[0.0] * 50]) == stats.sign_flips(some)
    assert stats.mcnemar([1, 0, 1], [1, 0, 1]) == 1.0


def test_sums_that_differ_in_their_last_bit_are_equal_at_any_scale():
    for scale in (1e-12, 1, 1e12):
        assert stats.sign_flips([0.1 * scale, 0.2 * scale, -0.3 * scale]) == 1.0
        assert stats.sign_flips([0.1 * scale] * 3 + [0.7 * scale]) == 2 / 16


@pytest.mark.parametrize(('gained', 'lost', 'p'), [
    (5, 0, 2 / 32), (6, 1, 2 * (1 + 7) / 128), (1, 6, 2 * (1 + 7) / 128), (3, 3, 1.0),
    (8, 2, 2 * (1 + 10 + 45) / 1024)])
def test_mcnemar_looks_at_the_pairs_that_differ_alone(gained, lost, p):
    values = [1] * gained + [0] * lost + [1] * 20 + [0] * 30
    plain = [0] * gained + [1] * lost + [1] * 20 + [0] * 30
    assert stats.mcnemar(values, plain) == pytest.approx(p)
    assert stats.paired_test(values, plain) == {'test': 'exact McNemar', 'p_raw': pytest.approx(p)}
    if gained + lost <= 10:  # flipped signs of ones are the same test
        assert stats.sign_flips(np.subtract(values, plain)) == pytest.approx(p)


def test_shares_and_scores_are_tested_by_their_signs():
    assert stats.paired_test([0.5, 1.0, 0.5], [0.0, 0.5, 0.0]) == {'test': 'sign flips', 'p_raw': 2 / 8}
    with pytest.raises(ValueError, match='longer'):
        stats.paired_test([1, 0], [1, 0, 1])


def test_where_nothing_differs_p_is_below_each_level_no_more_often_than_the_level():
    rng = np.random.default_rng(1)
    flipped = np.array([stats.sign_flips(rng.normal(0, 1, 8)) for _ in range(400)])
    rates = np.array([stats.mcnemar(*(rng.random((2, 40)) < 0.5).astype(int).tolist()) for _ in range(400)])
    for level in (0.05, 0.1, 0.25, 0.5):
        wide = 3 * math.sqrt(level * (1 - level) / 400)
        assert level - wide - 2 / 256 <= (flipped <= level).mean() <= level + wide, 'uniform, in steps'
        assert (rates <= level).mean() <= level + wide, 'exact: never more often'
    assert (rates <= 0.25).mean() > 0.05


def test_an_effect_that_is_there_is_found():
    rng = np.random.default_rng(8)
    assert stats.sign_flips(rng.normal(1, 1, 40)) < 0.001
    assert stats.sign_flips(rng.normal(-1, 1, 40)) < 0.001, 'in either direction'
    assert stats.mcnemar([0] * 30, [1] * 30) < 0.001


def test_holms_correction_is_that_computed_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([0.02]) == [0.02]
    assert stats.holm([]) == []
    assert stats.holm([0.01, 0.01, 0.01]) == pytest.approx([0.03] * 3)


def test_holms_correction_lets_a_table_without_effects_err_no_more_often_than_one_test():
    rng = np.random.default_rng(9)
    tables = rng.random((2000, 10))
    assert np.mean([min(stats.holm(ps.tolist())) <= 0.05 for ps in tables]) == pytest.approx(0.05, abs=0.015)
