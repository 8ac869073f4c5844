"""
What a person reads of an experiment: five columns on the screen, everything in summary.md and summary.json.
"""
import json

from lab.grid import APART, SHORT, label_of
from lab.runs import rounded
from lab.scores import JUDGED_WORDS

HOW_TO_READ = {
    'sentiment': "compound: VADER's, of the text without its prompt, median [quartiles] (95 % interval of "
                 "the median). It is a squashed sum that nears 1 with length alone; per sentence is the "
                 "mean compound of single sentences, first words the compound of as many words of each text, "
                 f"{JUDGED_WORDS}. effect: median difference of the compound from the plain model's text of "
                 "the same seed (95 % interval). p: of the mean of these differences, by flipping their "
                 "signs. polarity: of a second judge, TextBlob, whose score is a mean of the words that it "
                 "knows; its effect and its p are as those of the compound.",
    'recall': "right: texts that begin with the answer (95 % Wilson interval). effect: difference of the "
              "share of right texts from the plain model, paired by seed (95 % interval). p: the exact "
              "McNemar test of these pairs. p(answer): the share of probability that the answer gets; "
              "mentioned: texts that name it anywhere.",
    'facts': "right: share of drawn answers that are right, greedy: of likeliest answers, p(answer): the "
             "share of probability that the answer gets; each with its 95 % interval over facts. effect: "
             "difference of right from the plain model, paired by fact (95 % interval). p: the exact "
             "McNemar test of these pairs; with several draws a fact, of the mean difference, by flipping "
             "signs. wrong: share of answers that are the one put into the opposite text.",
    'library': "right: likeliest answers that contain the right one, without case, articles and punctuation. "
               "found: questions whose text has the most votes, of BM25 the highest score; in five: it is "
               "among the best five. recalled: questions for which a text was recalled at all; falsely: with "
               "their own text left out of the vote; at 0.1 falsely: by the threshold that a tenth of these "
               "reach. Each with its 95 % Wilson interval. effect: difference of right from the question "
               "alone, paired by question (95 % interval). p: the exact McNemar test of these pairs.",
    'talk': "right: likeliest answers that name what was told. found: questions for which the text of their "
            "fact was recalled. Each with its 95 % Wilson interval. effect: difference of right from the "
            "last exchanges alone, paired by question (95 % interval). p: the exact McNemar test of these "
            "pairs. seconds: of processor time to the first token, median [quartiles].",
    'look_ups': "S: attention that the token got (Eq. 1); distances: squared; ranks: Eq. 5. Rows: from 0."}
OF_TEXTS = ("text: median perplexity of what was written, under the plain model. repetition: median share "
            "of 4-grams that stood in the text before. ")
OF_ALL = ("p is two-sided, and Holm's correction is for all rows of its column: where nothing has an "
          "effect, at most one table in twenty shows a p of 0.05 or less. A small p says that there is an "
          "effect, not that it is large, and few texts can have no small one. held-out: perplexity of "
          "documents on other subjects, relative to the plain model's (95 % interval over documents), each "
          "token picking for itself whatever memory_select is. searches: token-heads looked up, a step, over "
          "all layers.")
OF_CASES = ("A number a case, the mean over its texts ({} seeds): medians, means, intervals and tests are "
            "over the {} cases, whatever is said below of seeds. The effect is the mean of their "
            "differences, tested by flipping their signs. Held-out: each case's memory on documents of "
            "its own.")
CHOSEN = ("Bold is chosen: of the settings that do as much as the best but for chance, the one that "
          "damages least. Its row is the best of many, which is partly luck: the config below has what it "
          "does on fresh seeds.")
MOST_LOOK_UPS = 60  # in a table; all are in results.jsonl
MOST_TRIED = 12  # settings of a search on the screen; all are in summary.md


# ---- cells ----

def number(x, digits=2, sign=False):
    text = f"{x:{'+' if sign else ''}.{digits}f}"
    return text.lstrip('+-') if float(text) == 0 else text  # no minus before a zero


def with_interval(entry, digits=2, sign=False):
    if entry is None:
        return ''
    low, high = entry['interval']
    return f"{number(entry['value'], digits, sign)} ({number(low, digits)}, {number(high, digits)})"


def p_value(row, name='effect'):
    """Of an effect, corrected within the table; '' where nothing was tested."""
    p = row.get(name, {}).get('p_holm')
    return '' if p is None else '< 0.001' if p < 0.001 else f'{p:.3f}'


def percent(entry):
    if entry is None:
        return ''
    value, low, high = (number(100 * (x - 1), 1, True) for x in (entry['value'], *entry['interval']))
    return f"{value} % ({low}, {high})"


def median(row, name, digits=2):
    return number(row[name]['median'], digits)


def signed_median(row, name):
    """'' where the run is from before there was this score."""
    return f"{row[name]['median']:+.2f}" if name in row else ''


def compound(row):
    c, (low, high) = row['compound'], row['compound']['interval']
    return f"{c['median']:+.2f} [{c['q1']:.2f}, {c['q3']:.2f}] ({low:.2f}, {high:.2f})"


def share(row, name):
    """Of zeros and ones; of cases, or of several draws, a mean."""
    entry = row[name]
    if 'count' not in entry:
        return with_interval(entry)
    return f"{entry['count']}/{entry['n']} ({entry['interval'][0]:.2f}, {entry['interval'][1]:.2f})"


def share_if(row, name):
    return share(row, name) if name in row else ''


def at_a_tenth(row):
    """And the threshold that is so."""
    at = f", threshold {number(row['threshold_at_a_tenth'])}" if 'threshold_at_a_tenth' in row else ''
    return share_if(row, 'recalled_at_a_tenth') + at


def probability(row, name):
    """Of one question a number, of many their mean."""
    return with_interval(row[name], 3) if isinstance(row[name], dict) else number(row[name], 3)


def effect(row, name):
    return with_interval(row.get(name), 3, sign=True)


def told(row):
    """A row's label; the finder's choice stands out."""
    return f"**{row['label']}**" if row.get('chosen') else row['label']


# ---- tables ----

SCORES = {'sentiment': {'compound': compound}, 'recall': {'right': lambda row: share(row, 'right')},
          'facts': {'right': lambda row: with_interval(row['right'])},
          'library': {'right': lambda row: share(row, 'right'), 'found': lambda row: share_if(row, 'found')},
          'talk': {'right': lambda row: share(row, 'right'), 'found': lambda row: share_if(row, 'found')}}
EFFECT = {'effect': lambda row: effect(row, 'effect'), 'p': p_value}
HELD_OUT = {'held-out': lambda row: percent(row.get('held_out'))}
OF_WRITTEN = {'text': lambda row: median(row, 'perplexity', 1),
              'repetition': lambda row: median(row, 'repetition'),
              'distinct-2': lambda row: median(row, 'distinct_2')}
OF_MEASURE = {
    'sentiment': {'per sentence': lambda row: signed_median(row, 'sentence_compound'),
                  'first words': lambda row: signed_median(row, 'first_words_compound'),
                  'polarity': lambda row: signed_median(row, 'polarity'),
                  'polarity effect': lambda row: effect(row, 'polarity_effect'),
                  'polarity p': lambda row: p_value(row, 'polarity_effect'),
                  **{name: lambda row, name=name: median(row, name) for name in ('pos', 'neu', 'neg')},
                  **OF_WRITTEN},
    'recall': {'p(answer)': lambda row: probability(row, 'probability'),
               'mentioned': lambda row: share(row, 'mentioned'), **OF_WRITTEN},
    'facts': {'greedy': lambda row: with_interval(row['greedy']),
              'p(answer)': lambda row: with_interval(row['probability'], 3),
              'wrong': lambda row: number(row['other_right']['value']),
              'stored tokens': lambda row: number(row['stored_tokens'], 0)},
    'library': {'in five': lambda row: share_if(row, 'found_in_five'),
                'recalled': lambda row: share_if(row, 'recalled'),
                'falsely': lambda row: share_if(row, 'recalled_without'),
                'recalled at 0.1 falsely': at_a_tenth,
                'stored tokens': lambda row: number(row['stored_tokens'], 0)},
    'talk': {'seconds': lambda row: f"{median(row, 'seconds')} [{number(row['seconds']['q1'])}, "
                                    f"{number(row['seconds']['q3'])}]",
             'prompt tokens': lambda row: median(row, 'prompt_tokens', 0)}}
SEARCHES = {'searches': lambda row: number(row['searches'], 1) if 'searches' in row else ''}
FIVE = {measure: {**score, **EFFECT, **HELD_OUT} for measure, score in SCORES.items()}  # beside the label
COLUMNS = {measure: {**score, **EFFECT, **OF_MEASURE[measure], **HELD_OUT, **SEARCHES}
           for measure, score in SCORES.items()}
SUBSTITUTE = {'substitute': lambda row: share(row, 'substitute_right'),
              'plain says it': lambda row: share(row, 'substitute_plain'),
              'its effect': lambda row: with_interval(row['substitute_effect'], sign=True),
              'its p': lambda row: p_value(row, 'substitute_effect'),
              'p(substitute)': lambda row: probability(row, 'substitute_probability'),
              'plain p(substitute)': lambda row: probability(row, 'substitute_plain_probability')}


def table(head, lines):
    return '\n'.join(f"| {' | '.join(cells)} |" for cells in [head, ['---'] * len(head), *lines])


def table_of(rows, columns):
    return table(['', *columns], [[told(row), *(cell(row) for cell in columns.values())] for row in rows])


def main_table(rows, measure):
    """Every column."""
    columns = COLUMNS[measure]
    if any('substitute_right' in row for row in rows):
        columns = {**columns, **{name: lambda row, cell=cell: cell(row) if 'substitute_right' in row else ''
                                 for name, cell in SUBSTITUTE.items()}}
    return table_of(rows, columns)


def layers_table(rows):
    """Work by layer, of the rows that look something up."""
    rows = [row for row in rows if row.get('work', {}).get('searches_per_step')]
    layers = sorted({int(layer) for row in rows for layer in row['work']['searches_per_step']})
    lines = [[told(row), *(work_cell(row['work'], layer) for layer in layers),
              f"{row['work']['tokens_per_second']:.0f}"] for row in rows]
    return table(['', *(f'layer {layer}' for layer in layers), 'tokens/s'], lines) if rows else ''


def work_cell(work, layer):
    by_layer = ({int(k): v for k, v in work[f'{name}_per_step'].items()} for name in ('searches', 'picks'))
    searches, picks = by_layer  # the keys of JSON are texts
    return f"{searches[layer]:.1f} / {picks[layer]:.1f}" if layer in searches else ''


LOOK_UP = {
    'layer': lambda r: str(r['layer']), 'head': lambda r: str(r['h']),
    'context token': lambda r: f"{r['j']} {r['token']!r}",
    'S': lambda r: number(r['attention'], 4), 'memory rows': lambda r: ' '.join(map(str, r['ids'])),
    'distances': lambda r: ' '.join(number(d, 0 if max(r['distances']) > 10 else 2) for d in r['distances']),
    'memory tokens': lambda r: ' '.join(map(repr, r['tokens'])),
    'ranks': lambda r: ' '.join(number(rank, 3) for rank in r['ranks'])}
FIVE_OF_A_LOOK_UP = ('layer', 'head', 'context token', 'memory tokens', 'ranks')


def look_ups_table(point, names=tuple(LOOK_UP)):
    """The write-up's Tables 2 and 3: a line for each look-up of a step."""
    found = point['record']['look_ups'][:MOST_LOOK_UPS]
    return table(names, [[LOOK_UP[name](r) for name in names] for r in found])


def cases_table(rows):
    """Each case's mean score under the plain model, and its effect in each other row."""
    cases = next(row for row in rows if 'by_case' in row)['by_case']
    plain = next((row for row in rows if row['condition'] == 'plain'), None)
    others = [row for row in rows if row is not plain and 'by_case' in row]
    lines = [[name, number(plain['by_case'][name]['mean'], 2, True),
              *(with_interval(row['by_case'][name]['effect'], 2, True) for row in others)] for name in cases]
    return table(['', 'plain model', *map(told, others)], lines)


def first_tokens_table(rows):
    lines = [[told(row), ', '.join(f'{token!r} {count}' for token, count in row['first_tokens'][:12])]
             for row in rows]
    return table(['', 'first tokens, and how often'], lines)


def texts_of(points, count):
    """The first texts of each point, seed by seed."""
    parts = []
    for n in range(count):
        for label, record in ((point['label'], point['record']) for point in points):
            if n < len(record.get('texts', [])):
                parts.append(f"seed {record['seeds'][n]}, {label}:\n\n> {one_line(record['texts'][n])}\n")
    return '\n'.join(parts)


def one_line(text):
    return ' '.join(text.split()) or '(nothing)'


# ---- the screen ----

def screen(points, rows, measure):
    """Five columns; the rest is in the files."""
    if measure == 'look_ups':
        return '\n\n'.join(look_ups_on_screen(point) for point in points)
    shown = rows_on_screen(rows)
    left = len(rows) - len(shown)
    return table_of(shown, FIVE[measure]) + (f"\n{left} more settings were tried" if left else '')


def look_ups_on_screen(point):
    more = len(point['record']['look_ups']) - MOST_LOOK_UPS
    return (f"{point['label']}:\n{look_ups_table(point, FIVE_OF_A_LOOK_UP)}"
            + (f"\n{more} more look-ups are in results.jsonl" if more > 0 else ''))


def rows_on_screen(rows):
    """All; of a search, which ranks what it tried, the controls, the first few and the chosen one."""
    if not any(row.get('chosen') for row in rows):
        return rows
    first = [row for row in rows if row['panel'] >= 0][:MOST_TRIED]
    return [row for row in rows if row['panel'] < 0 or row.get('chosen') or row in first]


def brief(row):
    """What the line of JSON says of a row: its score, and effect and damage with their intervals."""
    score = row.get('compound', row.get('right', {}))
    found = {'score': score.get('median', score.get('value')), 'shares': row.get('shares'),
             'chosen': row.get('chosen'), 'p_holm': row.get('effect', {}).get('p_holm')}
    told_with_interval = [name for name in ('effect', 'held_out') if name in row]
    found |= {name: [row[name]['value'], *row[name]['interval']] for name in told_with_interval}
    return rounded({name: value for name, value in found.items() if value is not None})


def json_line(name, measure, rows):
    return json.dumps({'name': name, 'measure': measure, 'rows': {row['label']: brief(row) for row in rows}})


# ---- the files ----

def summary(points, rows, config, heading):
    """The Markdown of an experiment."""
    measure = config['measure']
    parts = look_ups_parts(points) if measure == 'look_ups' else rows_parts(rows, measure)
    if config['cases']:
        parts[1:1] = [OF_CASES.format(len(points[0]['record']['seeds']), len(config['cases']))]
    if config['show_texts'] and measure in ('sentiment', 'recall', 'library', 'talk'):
        parts += ['## Texts', texts_of(points, config['show_texts'])]
    return '\n\n'.join([heading, *parts]) + '\n'


def look_ups_parts(points):
    parts = [HOW_TO_READ['look_ups']]
    for point in points:
        record = point['record']
        shares = ', '.join(f'layer {layer} {100 * share:.1f} %' for layer, share in record['shares'].items())
        many = len(record['look_ups']) > MOST_LOOK_UPS
        tokens = record['numbers']['context_tokens']
        parts += [f"## {point['label']}", f"Looked up, of {tokens} context tokens in all heads: {shares}.",
                  *([] if many else [look_ups_table(point)])]
    return parts


def rows_parts(rows, measure):
    of_texts = '' if measure in ('facts', 'library', 'talk') else OF_TEXTS
    parts = [main_table(rows, measure), HOW_TO_READ[measure], of_texts + OF_ALL]
    if any(row.get('chosen') for row in rows):
        parts += [CHOSEN]
    if any('by_case' in row for row in rows):
        parts += ['## By case: the effect, with its 95 % interval over seeds', cases_table(rows)]
    if any('first_tokens' in row for row in rows):
        parts += ['## First tokens', first_tokens_table(rows)]
    if any(row.get('work', {}).get('searches_per_step') for row in rows):
        parts += ['## Work: token-heads searched / picked in a step, by layer', layers_table(rows)]
    return parts


def heading(name, command, points, docs, figure):
    """Title, what the config file says of itself, the figure, the command, where the numbers come from."""
    lines = [f'# {name}', docs, f'![{name}]({figure})' if figure else '', f'```\n$ {command}\n```',
             origin(points), controls_line(points)]
    return '\n\n'.join(line for line in lines if line)


def origin(points):
    """Model, seeds, commit, versions, device and time."""
    record, settings = points[0]['record'], points[0]['settings']
    records = {point['record']['id']: point['record'] for point in points}.values()
    seeds = record['seeds'][:1] if settings['measure'] == 'look_ups' else record['seeds']
    versions = ', '.join(f'{k} {v}' for k, v in record['versions'].items())
    return (f"Model {settings['init_from']} (weights {record['fingerprint'][:8]}), {len(seeds)} "
            f"seed{'s' * (len(seeds) > 1)} from {seeds[0]}, commit {', '.join(commits(points))}, "
            f"{versions}, {record['time']['device']}, {len(records)} runs in "
            f"{sum(one['time']['seconds'] for one in records):.0f} s.")


def commits(points):
    """Of all runs: a sweep can have gone on after a change."""
    return sorted({point['record']['commit'] or 'unknown' for point in points})


def controls_line(points):
    """How the memories of other texts are read."""
    controls = [point['settings'] for point in points
                if point['panel'] < 0 and point['settings']['condition'] in ('unrelated', 'opposite')]
    how = label_of({name: controls[0][name] for name in SHORT}) if controls else ''
    return f"The controls' memories are read with {how}." if how else ''


def as_json(rows, config, command, points, maps=None):
    """The numbers behind the figure, which is drawn from them; maps: the finder's."""
    record = points[0]['record']
    left_out = {*APART, 'out_dir', 'cases'} - {'grid', 'figure', 'find'}
    kept = {'command': command, 'commits': commits(points)}
    kept |= {name: record[name] for name in ('versions', 'time', 'fingerprint', 'seeds')}
    kept |= {'maps': maps} if maps else {}
    kept |= {'config': {name: value for name, value in config.items() if name not in left_out}, 'rows': rows}
    return json.dumps(rounded(kept), separators=(',', ':')).replace('{"label"', '\n{"label"') + '\n'
