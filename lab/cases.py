"""
Many cases in the place of one prompt: each brings a prompt and texts of its own, and what is measured is one
number a case, the mean over its seeds. So an interval, or a test, speaks of cases like these, not of the
draws of one.
"""
from statistics import fmean

from core.kinds import fitted
from core.texts import read_text
from lab.facts import mean_work

OF_A_CASE = ('name', 'start', 'memory_text', 'unrelated_text', 'neutral_text', 'opposite_text', 'answer',
             'substitute')
SCORED = {'sentiment': ('compound', 'polarity'), 'recall': ('right',)}  # kept text by text as well


def each_case(s):
    """A point's settings -> those of each of its cases; where it has none, of itself."""
    if not s['cases']:
        return [s]
    paragraphs, found = read_text(s['held_out_text']).strip().split('\n\n'), []
    for case in s['cases']:
        own = {key: value for key, value in case.items() if key != 'name'}
        found.append({**s, 'cases': [], 'held_out_text': '\n\n'.join(paragraphs), **own})
        paragraphs = paragraphs[1:] + paragraphs[:1]  # each case has others of these few
    return found


def over_cases(measure, model, tokenizer, s):
    """-> a record as `measure` gives, with a number a case; `by_case` holds each one's texts and scores."""
    found = [measure(model, tokenizer, one) for one in each_case(s)]
    samples = {name: [fmean(one['samples'][name]) for one in found] for name in found[0]['samples']}
    samples |= {name: [one['numbers'][name] for one in found] for name in found[0]['numbers']}
    held_out = {name: sum((one['held_out'][name] for one in found), []) for name in ('nats', 'tokens')}
    by_case = [{'name': case['name'], 'texts': one['texts'],
                **{name: one['samples'][name] for name in SCORED[s['measure']]}}
               for case, one in zip(s['cases'], found)]
    return {'samples': samples, 'numbers': {}, 'held_out': held_out, 'by_case': by_case,
            'work': mean_work([one['work'] for one in found])}


def check_cases(s):
    """Raises ValueError for cases that cannot be measured."""
    if s['cases'] and s['measure'] not in SCORED:
        raise ValueError(f"cases are given, but measure is {s['measure']!r}: "
                         "expected 'sentiment' or 'recall'")
    for case in s['cases']:
        wrong = [key for key in case if key not in OF_A_CASE]
        if wrong or 'name' not in case:
            raise ValueError(f"cases holds {str(case)[:60]!r}, with {wrong[0] if wrong else 'no name'}: "
                             f"expected a name and any of {', '.join(OF_A_CASE[1:])}")
        for key, value in case.items():
            fitted(key, value, '')
    names = [case['name'] for case in s['cases']]
    if len(set(names)) < len(names):
        raise ValueError(f"cases has two called {max(names, key=names.count)!r}: give each its own name")
