"""
From the runs of an experiment to rows of numbers, one a point: with intervals, beside the plain model.
"""
import numpy as np

from lab import stats
from lab.index_heads import FALSE_RECALLS, threshold_of

RATES = ('right', 'mentioned', 'greedy', 'substitute_right', 'substitute_mentioned', 'substitute_plain',
         'found', 'found_in_five', 'recalled', 'recalled_without', 'recalled_at_a_tenth')
# what two points must share, for the difference between them to be the memory's
TASK = ('start', 'chat', 'system', 'max_new_tokens', 'temperature', 'top_k', 'distance', 'num_facts', 'seed',
        'answer', 'squad_file', 'pass_keys', 'everyday')
SCORE_OF = {'sentiment': ('compound', np.median), 'recall': ('right', np.mean), 'facts': ('right', np.mean),
            'library': ('right', np.mean), 'talk': ('right', np.mean)}
MEANS = (*RATES, 'probability', 'substitute_probability', 'substitute_plain_probability')  # of facts, cases
EFFECTS = 'effect', 'polarity_effect', 'substitute_effect'
OF_RECORD = 'first_tokens', 'shares', 'look_ups'  # what a row has as the record has it


def rows_of(points):
    """Points with records -> a row of statistics for each, with effects where plain had the same task."""
    rows = [row_of(point, plain_of(point, points)) for point in points]
    for name in EFFECTS:
        correct([row[name] for row in rows if 'p_raw' in row.get(name, {})])
    return rows


def correct(effects):
    """Each effect of a column of the table gets its 'p_holm'."""
    for effect, p in zip(effects, stats.holm([effect['p_raw'] for effect in effects])):
        effect['p_holm'] = p


def plain_of(point, points):
    """The record of the plain model that was given what this point was, or None."""
    def task(one):
        return [one['settings'][name] for name in TASK] + [one['record']['seeds']]

    plain = (one for one in points if one['settings']['condition'] == 'plain')
    return next((one['record'] for one in plain if task(one) == task(point)), None)


def row_of(point, plain):
    record, settings = point['record'], point['settings']
    samples, is_plain = record['samples'], settings['condition'] == 'plain'
    row = {'label': point['label'], 'panel': point['panel'], 'varied': point['varied'],
           'condition': settings['condition'], 'id': record['id'], **record['numbers']}
    row |= {name: point[name] for name in ('chosen', 'name', 'fixed') if point.get(name)}
    row |= {name: statistics_of(name, values, settings) for name, values in samples.items()}
    if 'evidence_without' in samples:
        least = threshold_of(samples['evidence_without'], FALSE_RECALLS)
        above = [int(evidence >= least) for evidence in samples['evidence']]
        row |= {'threshold_at_a_tenth': least,
                'recalled_at_a_tenth': statistics_of('recalled_at_a_tenth', above, settings)}
    if plain is not None and samples:
        row |= effects(samples, plain['samples'], settings, is_plain)
        if 'held_out' in record:  # texts in a prompt are measured by what they answer alone
            row |= damage(record['held_out'], plain['held_out'])
        if 'by_case' in record:
            row['by_case'] = by_case(record['by_case'], plain['by_case'], SCORE_OF[settings['measure']][0])
    if 'substitute_plain' in row:
        ours, theirs = samples['substitute_right'], samples['substitute_plain']
        row['substitute_effect'] = effect(ours, theirs, np.mean, is_plain)
    row |= {name: record[name] for name in OF_RECORD if name in record}
    if settings['measure'] == 'talk' or settings['pass_keys'] or 'evidence_without' in samples:
        row['samples'] = samples  # their figures draw each
    return row | work_of(record)


def effects(samples, plain, settings, is_plain):
    """What the row's score differs by from the plain model's, text by text, or case by case."""
    name, of = SCORE_OF[settings['measure']]
    of = np.mean if settings['cases'] else of
    found = {'scores': samples[name],  # the pairs of the test, for whoever wants another test
             'effect': effect(samples[name], plain[name], of, is_plain)}
    if 'polarity' in samples.keys() & plain.keys():  # runs from before there was a second judge lack it
        found['polarity_effect'] = effect(samples['polarity'], plain['polarity'], of, is_plain)
    return found


def by_case(cases, plain, name):
    """Each case's mean score, and its effect with the interval over its seeds."""
    return {case['name']: {'mean': float(np.mean(case[name])),
                           'effect': stats.difference(case[name], before[name], np.mean)}
            for case, before in zip(cases, plain, strict=True)}


def statistics_of(name, values, settings):
    """Of zeros and ones a rate with Wilson's interval, of facts and of what cases answer a mean, else a
    median with quartiles."""
    if name in RATES and set(values) <= {0, 1}:
        count, n = int(sum(values)), len(values)
        return {'value': count / n, 'count': count, 'n': n, 'interval': stats.wilson(count, n)}
    if settings['measure'] == 'facts' or settings['cases'] and name in MEANS:
        interval = stats.bootstrap(values, statistic=np.mean)
        return {'value': float(np.mean(values)), 'n': len(values), 'interval': interval}
    return {**stats.quartiles(values), 'n': len(values), 'interval': stats.bootstrap(values)}


def effect(values, plain, of, is_plain):
    """A paired difference with its interval and, unless the plain model stands beside itself, its test."""
    found = stats.difference(values, plain, of)
    return found if is_plain else found | stats.paired_test(values, plain)


def damage(held_out, before):
    """Held-out perplexity over the plain model's, where both were given the same documents."""
    if held_out['tokens'] != before['tokens']:
        return {}
    return {'held_out': stats.perplexity_ratio(held_out['nats'], before['nats'], held_out['tokens'])}


def work_of(record):
    """Token-heads searched and picked in a step, over all layers and by layer."""
    if 'work' not in record:
        return {}
    total = {name: sum(record['work'][f'{name}_per_step'].values()) for name in ('searches', 'picks')}
    return {**total, 'work': record['work']}
