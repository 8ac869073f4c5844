"""
Two rows of a published record against each other, pair by pair, where its page has each against plain.

$ python -m lab.compare assets/smollm2/smollm2_questions.json "method 4, insert" "text in the prompt"

Several pairs of labels are one table: Holm's correction is for all of them.
"""
import sys

import numpy as np

from core.model_files import read_json
from lab import stats


def compare(rows, pairs):
    """rows: a record's. pairs: [(label, label of the one beside it)] -> [(both labels, their difference, the
    test's name, p)]. Raises ValueError for a label that is not there, or whose row has no scores."""
    scores, found = {row['label']: row.get('scores') for row in rows}, []
    if len(scores) < len(rows):
        raise ValueError("two rows of the record have one label: their numbers cannot be told apart")
    for pair in pairs:
        for label in pair:
            if not scores.get(label):
                known = ', '.join(repr(label) for label, own in scores.items() if own)
                raise ValueError(f"no row {label!r} with scores: name one of {known or 'another record'}")
        one, other = (scores[label] for label in pair)
        found.append((pair, stats.difference(one, other, np.mean), stats.paired_test(one, other)))
    corrected = stats.holm([test['p_raw'] for *_, test in found])
    return [(pair, by, test['test'], p) for (pair, by, test), p in zip(found, corrected)]


def main(arguments):
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise ValueError("expected a record, a .json file, and pairs of its labels")
    path, *labels = arguments
    rows = read_json(path).get('rows', [])
    for (one, other), by, test, p in compare(rows, list(zip(labels[::2], labels[1::2]))):
        low, high = by['interval']
        by = f"mean of pairs {by['value']:+.3f} ({low:+.3f}, {high:+.3f}; 95 %)"
        print(f"{one}, less {other}: {by}, {test}, p {p:.2g}")


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
