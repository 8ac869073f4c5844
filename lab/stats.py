"""
Medians, rates and their 95 % intervals. Resampling draws the same numbers each time.
"""
import math
import warnings

import numpy as np
from scipy import stats

RESAMPLES = 2000


def quartiles(values):
    """-> {'median', 'q1', 'q3', 'iqr'}."""
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {'median': median, 'q1': q1, 'q3': q3, 'iqr': q3 - q1}


def wilson(count, n):
    """Of a rate count / n: Wilson's score interval."""
    interval = stats.binomtest(count, n).proportion_ci(method='wilson')
    return float(interval.low), float(interval.high)


def bootstrap(*samples, statistic=np.median):
    """Percentile bootstrap of statistic(*samples, axis=...) over units that the samples share, a seed or a document: (low, high)."""
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    if len(arrays[0]) < 2 or all((array == array[0]).all() for array in arrays):
        value = float(statistic(*arrays, axis=-1))
        return value, value
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)
        interval = stats.bootstrap(arrays, statistic, paired=len(arrays) > 1, vectorized=True, n_resamples=RESAMPLES,
                                   method='percentile', rng=np.random.default_rng(0)).confidence_interval
    return float(interval.low), float(interval.high)


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
