"""
Medians, rates and their 95 % intervals; tests of paired differences, and their correction within a table.
Resampling draws the same numbers each time.
"""
import math
import warnings

import numpy as np
from scipy import stats

BOOTSTRAP_RESAMPLES = 2000
# draws of signs where not all can be tried: the least p is 1 / 50,000, so that fifty rows can reach 0.001
SIGN_RESAMPLES = 49_999


def quartiles(values):
    """-> {'median', 'q1', 'q3', 'iqr'}, and the ends of a box plot's whiskers, 'p5' and 'p95'."""
    p5, q1, median, q3, p95 = (float(q) for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    return {'median': median, 'q1': q1, 'q3': q3, 'iqr': q3 - q1, 'p5': p5, 'p95': p95}


def wilson(count, n):
    """Of a rate count / n: Wilson's score interval."""
    interval = stats.binomtest(count, n).proportion_ci(method='wilson')
    return float(interval.low), float(interval.high)


def bootstrap(*samples, statistic=np.median):
    """Percentile bootstrap of statistic(*samples, axis=...) over what the samples share, seeds or documents.

    -> (low, high).
    """
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    if len(arrays[0]) < 2 or all((array == array[0]).all() for array in arrays):
        value = float(statistic(*arrays, axis=-1))
        return value, value
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)
        found = stats.bootstrap(arrays, statistic, paired=len(arrays) > 1, vectorized=True,
                                method='percentile', n_resamples=BOOTSTRAP_RESAMPLES,
                                rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def difference(values, plain, of):
    """Paired by seed: `of`, np.median or np.mean, of values - plain, with its interval."""
    paired = np.subtract(values, plain)
    return {'value': float(of(paired)), 'interval': bootstrap(paired, statistic=of)}


def perplexity_ratio(nats, plain_nats, tokens):
    """Perplexity of documents over that of the plain model, and its interval over documents."""
    def ratio(nats, plain_nats, tokens, axis):
        return np.exp((nats - plain_nats).sum(axis) / tokens.sum(axis))

    arrays = [np.asarray(values, dtype=float) for values in (nats, plain_nats, tokens)]
    return {'value': float(ratio(*arrays, axis=-1)), 'interval': bootstrap(*arrays, statistic=ratio)}


def perplexity(nats, tokens):
    return math.exp(sum(nats) / sum(tokens))


# ---- tests ----

def paired_test(values, plain):
    """Is there a difference, pair by pair? -> {'test': its name, 'p_raw': two-sided, not corrected}."""
    if set(values) | set(plain) <= {0, 1}:
        return {'test': 'exact McNemar', 'p_raw': mcnemar(values, plain)}
    return {'test': 'sign flips', 'p_raw': sign_flips(np.subtract(values, plain))}


def mcnemar(values, plain):
    """Of paired zeros and ones, exactly: where they differ, is either way as likely? (McNemar 1947)"""
    pairs = list(zip(values, plain, strict=True))
    gained, lost = pairs.count((1, 0)), pairs.count((0, 1))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flips(differences):
    """How often is the mean of differences as far from 0 when each draws its sign anew? (Fisher 1935)

    All choices of signs are tried where they are at most SIGN_RESAMPLES; else so many are drawn, and the
    observed one counts among them, so that p is never 0.
    """
    moved = np.asarray(differences, dtype=float)
    moved = moved[moved != 0]  # a sign changes nothing of a zero: left out, fewer signs are to be tried
    if len(moved) < 2:
        return 1.0  # either sign of one is as far
    moved /= np.abs(moved).max()

    def distance(sample, axis):
        return np.abs(sample.sum(axis)).round(9)  # else sums that are equal differ in their last bit

    found = stats.permutation_test((moved,), distance, permutation_type='samples', alternative='greater',
                                   vectorized=True, n_resamples=SIGN_RESAMPLES, batch=10_000,
                                   rng=np.random.default_rng(0))
    return float(found.pvalue)


def holm(ps):
    """p-values of a table -> so much larger that together they err no more often than one (Holm 1979)."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected
