"""
From the runs of an experiment to what a person reads: a row of numbers with intervals for each point, summary.md, summary.json.
"""
import json
import os

import numpy as np

from core.atomic import whole_files
from lab import stats
from lab.grid import APART, SHORT, label_of
from lab.runs import rounded

HOW_TO_READ = {
    'sentiment': "compound: VADER's, of the text without its prompt, median [quartiles] (95 % interval of the median). It is a squashed "
                 "sum that nears 1 with length alone; per sentence is the mean compound of single sentences. effect: median difference of "
                 "the compound from the plain model's text of the same seed (95 % interval); real: whether that interval leaves out 0.",
    'recall': "right: texts that begin with the answer (95 % Wilson interval). p: the share of probability that it gets; mentioned: "
              "texts that name it anywhere. effect: difference of the share of right texts from the plain model, paired by seed (95 % "
              "interval); real: whether that interval leaves out 0.",
    'facts': "right: share of drawn answers that are right, greedy: of likeliest answers, p: the share of probability that the answer "
             "gets; each with its 95 % interval over facts. effect: difference of right from the plain model, paired by fact; real: "
             "whether its interval leaves out 0. wrong: share of answers that are the one put into the opposite text.",
    'look_ups': "S: attention that the token got (Eq. 1); distances: squared; ranks: Eq. 5. Rows count from 0."}
OF_TEXTS = ("text: median perplexity of what was written, under the plain model. repetition: median share of 4-grams that stood in the "
            "text before. ")
OF_ALL = ("held-out: perplexity of documents on other subjects, relative to the plain model's (95 % interval over documents), each "
          "token picking for itself whatever memory_select is. searches: token-heads looked up, a step, over all layers. Of twenty rows "
          "without any effect one is expected to look real, and real is not large; below six texts nothing is called real or not.")
RATES = ('right', 'mentioned', 'greedy', 'substitute_right', 'substitute_mentioned', 'substitute_plain')
TASK = ('start', 'max_new_tokens', 'temperature', 'top_k', 'distance', 'num_facts', 'seed', 'answer')
FEWEST = 6  # texts, below which an interval says nothing


# ---- rows of numbers ----

def rows_of(points):
    """Points with their records -> a row of statistics for each, compared with the plain model's at the same task where there is one."""
    return [row_of(point, plain_of(point, points)) for point in points]


def plain_of(point, points):
    """The record of the plain model that was given what this point was, or None."""
    def task(one):
        return [one['settings'][name] for name in TASK] + [one['record']['seeds']]

    return next((one['record'] for one in points if one['settings']['condition'] == 'plain' and task(one) == task(point)), None)


def row_of(point, plain):
    record, measure = point['record'], point['settings']['measure']
    row = {'label': point['label'], 'panel': point['panel'], 'varied': point['varied'], 'condition': point['settings']['condition'],
           'id': record['id'], **record['numbers']}
    row |= {name: statistics_of(name, values, measure) for name, values in record['samples'].items()}
    if plain is not None and record['samples']:
        row |= compared(record, plain, *({'sentiment': ('compound', np.median)}.get(measure, ('right', np.mean))))
    if 'substitute_plain' in row:
        row['substitute_effect'] = stats.difference(record['samples']['substitute_right'], record['samples']['substitute_plain'], np.mean)
    if 'work' in record:
        row['searches'] = sum(record['work']['searches_per_step'].values())
        row['picks'] = sum(record['work']['picks_per_step'].values())
        row['work'] = record['work']
    return row | {name: record[name] for name in ('first_tokens', 'shares') if name in record}


def statistics_of(name, values, measure):
    """A median with quartiles and its interval; of zeros and ones a rate with Wilson's; of shares over facts a mean."""
    if name in RATES and set(values) <= {0, 1}:
        count, n = sum(values), len(values)
        return {'value': count / n, 'count': count, 'n': n, 'interval': stats.wilson(count, n)}
    if measure == 'facts':
        return {'value': float(np.mean(values)), 'n': len(values), 'interval': stats.bootstrap(values, statistic=np.mean)}
    return {**stats.quartiles(values), 'n': len(values), 'interval': stats.bootstrap(values)}


def compared(record, plain, name, of):
    """The effect, and the damage, against the plain model."""
    found, ours, theirs = {}, record['samples'][name], plain['samples'][name]
    found['effect'] = stats.difference(ours, theirs, of)
    held_out, before = record['held_out'], plain['held_out']
    if held_out['tokens'] == before['tokens']:
        found['held_out'] = stats.perplexity_ratio(held_out['nats'], before['nats'], held_out['tokens'])
    return found


# ---- the table ----

def number(x, digits=2, sign=False):
    text = f"{x:{'+' if sign else ''}.{digits}f}"
    return text.lstrip('+-') if float(text) == 0 else text  # no minus before a zero


def with_interval(entry, digits=2, sign=False):
    if entry is None:
        return ''
    low, high = entry['interval']
    return f"{number(entry['value'], digits, sign)} ({number(low, digits)}, {number(high, digits)})"


def real(row, name='effect'):
    """Whether an effect's interval leaves out 0; '' where there is none, or too few texts to say."""
    if name not in row or row['right' if 'right' in row else 'compound']['n'] < FEWEST:
        return ''
    low, high = row[name]['interval']
    return 'yes' if low > 0 or high < 0 else 'no'


def percent(entry):
    if entry is None:
        return ''
    low, high = (100 * (end - 1) for end in entry['interval'])
    return f"{number(100 * (entry['value'] - 1), 1, True)} % ({number(low, 1, True)}, {number(high, 1, True)})"


def median(row, name, digits=2):
    return number(row[name]['median'], digits)


def compound(row):
    c = row['compound']
    return (f"{c['median']:+.2f} [{c['q1']:.2f}, {c['q3']:.2f}] ({c['interval'][0]:.2f}, {c['interval'][1]:.2f})")


def share(row, name):
    entry = row[name]
    return f"{entry['count']}/{entry['n']} ({entry['interval'][0]:.2f}, {entry['interval'][1]:.2f})"


EFFECT = {'effect': lambda row: with_interval(row.get('effect'), 3, sign=True), 'real': real}
DAMAGE_COLUMNS = {'text': lambda row: median(row, 'perplexity', 1), 'repetition': lambda row: median(row, 'repetition'),
                  'distinct-2': lambda row: median(row, 'distinct_2')}
HELD_OUT = {'held-out': lambda row: percent(row.get('held_out')), 'searches': lambda row: number(row['searches'], 1)}
COLUMNS = {
    'sentiment': {'compound': compound, **EFFECT, 'per sentence': lambda row: f"{row['sentence_compound']['median']:+.2f}",
                  **{name: lambda row, name=name: median(row, name) for name in ('pos', 'neu', 'neg')}, **DAMAGE_COLUMNS, **HELD_OUT},
    'recall': {'right': lambda row: share(row, 'right'), **EFFECT, 'p': lambda row: number(row['probability'], 3),
               'mentioned': lambda row: share(row, 'mentioned'), **DAMAGE_COLUMNS, **HELD_OUT},
    'facts': {'right': lambda row: with_interval(row['right']), **EFFECT, 'greedy': lambda row: with_interval(row['greedy']),
              'p': lambda row: with_interval(row['probability'], 3), 'wrong': lambda row: number(row['other_right']['value']),
              'stored tokens': lambda row: number(row['stored_tokens'], 0), **HELD_OUT}}
SUBSTITUTE = {'substitute': lambda row: share(row, 'substitute_right'), 'plain says it': lambda row: share(row, 'substitute_plain'),
              'its effect': lambda row: with_interval(row['substitute_effect'], sign=True),
              'real ': lambda row: real(row, 'substitute_effect'), 'its p': lambda row: number(row['substitute_probability'], 3),
              'plain p': lambda row: number(row['substitute_plain_probability'], 3)}


def table(head, lines):
    return '\n'.join(f"| {' | '.join(cells)} |" for cells in [head, ['---'] * len(head), *lines])


def main_table(rows, measure):
    columns = COLUMNS[measure]
    if any('substitute_right' in row for row in rows):
        columns = {**columns, **{name: lambda row, cell=cell: cell(row) if 'substitute_right' in row else ''
                                 for name, cell in SUBSTITUTE.items()}}
    return table(['', *columns], [[row['label'], *(cell(row) for cell in columns.values())] for row in rows])


def layers_table(rows):
    """Work by layer, of the rows that look something up."""
    rows = [row for row in rows if row.get('work', {}).get('searches_per_step')]
    layers = sorted({int(layer) for row in rows for layer in row['work']['searches_per_step']})

    def cells(row):
        work = {name: {int(k): v for k, v in row['work'][name].items()} for name in ('searches_per_step', 'picks_per_step')}
        return [f"{work['searches_per_step'][layer]:.1f} / {work['picks_per_step'][layer]:.1f}" if layer in work['searches_per_step']
                else '' for layer in layers]

    speed = [f"{row['work']['tokens_per_second']:.0f}" for row in rows]
    return table(['', *(f'layer {layer}' for layer in layers), 'tokens/s'],
                 [[row['label'], *cells(row), s] for row, s in zip(rows, speed)]) if rows else ''


def look_ups_table(point):
    """The write-up's Tables 2 and 3: a line for each look-up of a step."""
    lines = [[str(r['layer']), str(r['h']), f"{r['j']} {r['token']!r}", number(r['attention'], 4), ' '.join(map(str, r['ids'])),
              ' '.join(number(d, 0 if max(r['distances']) > 10 else 2) for d in r['distances']), ' '.join(map(repr, r['tokens'])),
              ' '.join(number(rank, 3) for rank in r['ranks'])] for r in point['record']['look_ups']]
    return table(['layer', 'head', 'context token', 'S', 'memory rows', 'distances', 'memory tokens', 'ranks'], lines)


def texts_of(points, count):
    """The first texts of each point, seed by seed."""
    parts = []
    for n in range(count):
        known = [point for point in points if n < len(point['record'].get('texts', []))]
        parts += [f"seed {point['record']['seeds'][n]}, {point['label']}:\n\n> {one_line(point['record']['texts'][n])}\n"
                  for point in known]
    return '\n'.join(parts)


def one_line(text):
    return ' '.join(text.split()) or '(nothing)'


def first_tokens_table(rows):
    return table(['', 'first tokens, and how often'],
                 [[row['label'], ', '.join(f'{token!r} {count}' for token, count in row['first_tokens'][:12])] for row in rows])


def brief(row):
    """What the script's last line says of a row: its score, and effect and damage with their intervals."""
    score = row.get('compound', row.get('right', {}))
    found = {'score': score.get('median', score.get('value')), 'shares': row.get('shares')}
    found |= {name: [row[name]['value'], *row[name]['interval']] for name in ('effect', 'held_out') if name in row}
    return rounded({name: value for name, value in found.items() if value is not None})


# ---- the files ----

def summary(points, rows, config, heading):
    """The Markdown of an experiment."""
    measure = config['measure']
    parts = [heading]
    if measure == 'look_ups':
        parts += [HOW_TO_READ[measure]]
        for point in points:
            shares = ', '.join(f'layer {layer} {100 * share:.1f} %' for layer, share in point['record']['shares'].items())
            many = len(point['record']['look_ups']) > 60
            parts += [f"## {point['label']}",
                      f"Looked up, of {point['record']['numbers']['context_tokens']} context tokens in all heads: {shares}.",
                      *([] if many else [look_ups_table(point)])]
        return '\n\n'.join(parts) + '\n'
    parts += [main_table(rows, measure), HOW_TO_READ[measure], ('' if measure == 'facts' else OF_TEXTS) + OF_ALL]
    if any('first_tokens' in row for row in rows):
        parts += ['## First tokens', first_tokens_table(rows)]
    if any(row.get('work', {}).get('searches_per_step') for row in rows):
        parts += ['## Work: token-heads searched / picked in a step, by layer', layers_table(rows)]
    if config['show_texts'] and measure != 'facts':
        parts += ['## Texts', texts_of(points, config['show_texts'])]
    return '\n\n'.join(parts) + '\n'


def heading(name, command, points, docs, figure):
    """Title, what the config file says of itself, the figure, the command, and where the numbers come from."""
    record = points[0]['record']
    versions = ', '.join(f'{k} {v}' for k, v in record['versions'].items())
    s, records = points[0]['settings'], {point['record']['id']: point['record'] for point in points}.values()
    seeds = record['seeds'][:1] if s['measure'] == 'look_ups' else record['seeds']
    lines = [f'# {name}', docs, f'![{name}]({figure})' if figure else '', f'```\n$ {command}\n```',
             f"Model {s['init_from']} (weights {record['fingerprint'][:8]}), {len(seeds)} seed{'s' * (len(seeds) > 1)} from {seeds[0]}, "
             f"commit {', '.join(commits(points))}, {versions}, {record['time']['device']}, "
             f"{len(records)} runs in {sum(one['time']['seconds'] for one in records):.0f} s.", controls_line(points)]
    return '\n\n'.join(line for line in lines if line)


def commits(points):
    """Of all runs: a sweep can have gone on after a change."""
    return sorted({point['record']['commit'] or 'unknown' for point in points})


def controls_line(points):
    """How the memories of other texts are read."""
    controls = [point['settings'] for point in points if point['panel'] < 0 and point['settings']['condition'] in ('unrelated', 'opposite')]
    told = label_of({name: controls[0][name] for name in SHORT}) if controls else ''
    return f"The controls' memories are read with {told}." if told else ''


def write_files(folder, files):
    """{name: text or bytes} -> the files, each whole."""
    with whole_files(folder) as beside:
        for name, content in files.items():
            with open(os.path.join(beside, name), 'wb') as f:
                f.write(content if isinstance(content, bytes) else content.encode())


def as_json(rows, config, command, points):
    """The numbers behind the figure."""
    record = points[0]['record']
    config = {name: value for name, value in config.items() if name not in {*APART, 'out_dir'} or name == 'grid'}
    kept = {'command': command, 'commits': commits(points), 'versions': record['versions'], 'time': record['time'],
            'fingerprint': record['fingerprint'], 'seeds': record['seeds'], 'config': config, 'rows': rows}
    return json.dumps(rounded(kept), separators=(',', ':')).replace('{"label"', '\n{"label"') + '\n'
