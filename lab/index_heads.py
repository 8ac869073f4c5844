"""
Which attention heads know which text a question means? What votes are worth, and a set of heads picked
greedily by them.

Letters: H heads, Q questions, N texts. Votes are (..., Q, N) float, right (Q,) the number of the text that
answers each question.
"""
import numpy as np

CLEAR = 0.5  # a margin that is clear enough: what is found by far needs no more votes
LEAST_ALONE = 0.4  # of what the best head finds alone, for a head to be one of a set
FALSE_RECALLS = 0.1  # of questions whose text is not there: how many may recall something all the same
LEAST_THRESHOLD = 0.001  # 0 recalls always, what is below is refused


def places(votes, right):
    """-> (..., Q): how many other texts have as many votes as the right one, or more; 0 is found."""
    return (votes >= of_right(votes, right)).sum(-1) - 1


def of_right(votes, right):
    """-> (..., Q, 1), the right text's votes."""
    return np.take_along_axis(votes, np.broadcast_to(right[:, None], (*votes.shape[:-1], 1)), -1)


def share_found(votes, right, within=1):
    """-> (...): the share of questions whose right text is among the best `within`."""
    return (places(votes, right) < within).mean(-1)


def margins(votes, right):
    """-> (..., Q): the right text's lead over the best other in shares of the best's votes, from -1 to 1;
    above 0 where it is found."""
    own, others = of_right(votes, right)[..., 0], without(votes, right).max(-1)
    return (own - others) / np.maximum(np.maximum(own, others), 1e-9)


def without(votes, right):
    """A copy in which the right texts have no votes, as if they were not there."""
    others = votes.copy()
    np.put_along_axis(others, np.broadcast_to(right[:, None], (*votes.shape[:-1], 1)), 0, -1)
    return others


def score(votes, right):
    """What a set of heads is worth: the mean margin, cut off where it is clear. Finer than the share found,
    which is the same for many sets."""
    return float(np.minimum(margins(votes, right), CLEAR).mean())


def greedy(votes, right, key_heads, most, most_key_heads):
    """votes (H, Q, N), each head's, and the key head of each (H) -> [(its number, score of the set so far)]:
    up to `most` of those that find much alone, each the one that does most for those before it, with keys of
    up to most_key_heads.

    It does not end where the score no longer rises: made-up facts are soon all found, and what other texts
    need is that heads of several kinds agree.
    """
    alone = share_found(votes, right)
    left, chosen, total = [*np.flatnonzero(alone >= LEAST_ALONE * alone.max())], [], 0
    while left and len(chosen) < most:
        best = max(left, key=lambda i: score(total + votes[i], right))
        left.remove(best)
        total = total + votes[best]
        chosen.append((int(best), score(total, right)))
        used = {key_heads[i] for i, _ in chosen}
        if len(used) == most_key_heads:
            left = [i for i in left if key_heads[i] in used]
    return chosen


# ---- knowing that a text is not there ----

def lead(votes, voters):
    """By how much the best text is above the second, per token and head: votes (..., Q, N), voters (Q,) ->
    (..., Q).

    As recall.py has it.
    """
    best = np.partition(votes, -2, axis=-1)
    return (best[..., -1] - best[..., -2]) / voters


def threshold_of(evidence, false_recalls):
    """The evidence (Q,) that so large a share of questions (0 to 1) exceeds, whose text is not there; or the
    least that a reading takes, where that is more."""
    return max(LEAST_THRESHOLD, float(np.quantile(evidence, 1 - false_recalls)))


def share_recalled(evidence, found, threshold):
    """evidence (Q,), and whether the right text is the best (Q,) -> the share of questions for which
    something is recalled, and of those the share that is right."""
    recalled = evidence >= threshold
    return float(recalled.mean()), float((recalled & found).sum() / max(1, recalled.sum()))
