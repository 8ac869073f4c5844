"""
The figures of an experiment, from the rows of rows.py; each returns a matplotlib figure.

Grey is a control, orange a memory, blue what is read beside it. Whiskers: 95 % intervals, but for boxes.
"""
import matplotlib
import numpy as np

from lab.drawing import BLUE, GREY, INK, ORANGE, SERIES, legend_below, plt
from lab.grid import brief, label_of
from lab.talk_figure import talk
from lab.text_figures import abstaining, haystack, library, recalled

MOST_DRAWN = 40  # look-ups: more would not be read
DASHES = '-', '--', ':', '-.'
CONTROLS = {'plain': (INK, '--'), 'prompt': (INK, ':'), 'unrelated': (GREY, '--'), 'neutral': (GREY, '-.'),
            'opposite': (GREY, ':'), 'steering': (GREY, '-')}
UNITS = {'distance': 'tokens between fact and question',
         'texts_together': 'texts in one memory, about 72 tokens each'}
SCORE = {'sentiment': ('compound', 'VADER compound'), 'recall': ('right', 'share of right texts'),
         'facts': ('right', 'share of right answers'),
         'library': ('right', 'share of answers with the right one'),
         'talk': ('right', 'share of questions answered right')}


def color_of(row):
    return ORANGE if row['condition'] == 'memory' else GREY


def damage_axis(ax, rows):
    """Held-out perplexity of each row, in percent above plain, on a scale that shows 1 and 1000."""
    for y, row in enumerate(rows):
        if 'held_out' in row:
            ax.plot(100 * (np.array(row['held_out']['interval']) - 1), [y, y], color=color_of(row), lw=1.5)
            ax.plot(percent_above(row), y, 'o', color=color_of(row), ms=4)
    percent_scale(ax, 'x')
    ax.set_title('held-out perplexity')
    ax.set_xlabel('% above plain')


def percent_scale(ax, axis):
    """Linear up to 10 % and logarithmic beyond, where there is anything beyond."""
    if max(map(abs, getattr(ax, f'get_{axis}lim')())) < 30:
        return
    getattr(ax, f'set_{axis}scale')('symlog', linthresh=10)
    low, high = getattr(ax, f'get_{axis}lim')()
    # the twentieth more that a linear scale has is nothing above, and below, of large numbers, a decade
    low, high = max(low, 1.3 * min(0, getattr(ax.dataLim, f'{axis}min')) - 3), high * 1.3
    getattr(ax, f'set_{axis}lim')(low, high)
    ticks = [t for t in (-10, 0, 10, 100, 1000, 10_000, 100_000) if low <= t <= high or t == 0]
    ticks += [30] * int(30 < high < 100)  # else none would stand where it is logarithmic
    getattr(ax, f'set_{axis}ticks')(ticks, [f'{t:g}' if t < 1000 else f'{t // 1000}k' for t in ticks])
    getattr(ax, f'{axis}axis').set_minor_locator(matplotlib.ticker.NullLocator())


def row_labels(ax, rows):
    ax.set_yticks(range(len(rows)), [row['label'] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)


def boxes(points, rows, measure):
    """The write-up's box plots of VADER's scores, whiskers at 5 and 95 %; and the damage."""
    names = 'compound', 'pos', 'neu', 'neg', 'repetition'
    fig, axes = plt.subplots(1, 6, figsize=(12, 1.1 + 0.27 * len(rows)), sharey=True,
                             gridspec_kw={'width_ratios': (2, 1, 1, 1, 1, 1.3)})
    for ax, name in zip(axes, names):
        box_plot(ax, [row[name] for row in rows], rows)
        ax.set_xlim((-1.05, 1.05) if name == 'compound' else (-0.03, 1.03))
        ax.set_title(name)
        ax.set_xlabel('share of 4-grams' if name == 'repetition' else 'VADER score')
    axes[0].set_xlabel('VADER score\n(box: quartiles, whiskers: 5-95 %)')
    axes[0].axvline(0, color=GREY, lw=0.7, zorder=0)
    damage_axis(axes[5], rows)
    row_labels(axes[0], rows)
    return fig


def box_plot(ax, entries, rows):
    """entries: of each row its 'q1', 'median', 'q3', and whiskers from 'p5' to 'p95'."""
    ends = [{'whislo': one['p5'], 'q1': one['q1'], 'med': one['median'], 'q3': one['q3'],
             'whishi': one['p95']} for one in entries]
    drawn = ax.bxp(ends, positions=range(len(ends)), orientation='horizontal', widths=0.6, showfliers=False,
                   patch_artist=True, medianprops={'color': INK, 'lw': 1.5})
    for box, row in zip(drawn['boxes'], rows):
        box.set(facecolor=color_of(row), edgecolor=INK, alpha=0.75, lw=0.7)


def bars(points, rows, measure):
    """A bar a row: the share that is right with its interval, its probability a diamond; and the damage."""
    height = 1.1 + 0.27 * len(rows)
    fig, axes = plt.subplots(1, 2, figsize=(10, height), sharey=True, gridspec_kw={'width_ratios': (2.4, 1)})
    both = any('substitute_right' in row for row in rows)
    if both:
        rate_bars(axes[0], rows, '', ORANGE, 0.35, -0.175, 'the answer')
        rate_bars(axes[0], rows, 'substitute_', BLUE, 0.35, 0.175, 'what stands in its place')
        said_anyway(axes[0], rows)
    else:
        rate_bars(axes[0], rows, '', '', 0.7, 0, '')
    axes[0].plot([], [], 'D', color=INK, ms=3.5, mfc='white', label='share of probability')
    axes[0].legend(loc='upper left', bbox_to_anchor=(0, -0.55 / height), ncols=4, fontsize=8)
    axes[0].set_xlim(0, 1.02)
    axes[0].set_title(SCORE[measure][1])
    damage_axis(axes[1], rows)
    row_labels(axes[0], rows)
    return fig


def rate_bars(ax, rows, kind, color, height, shift, label):
    """Of the answer, kind '', or of the substitute; color '' is each row's own."""
    for y, row in enumerate(rows):
        if f'{kind}right' in row:
            rate, p = row[f'{kind}right'], row.get(f'{kind}probability', np.nan)  # a library has none
            p = p['value'] if isinstance(p, dict) else p  # of facts a mean, of one question a number
            ax.barh(y + shift, rate['value'], height, color=color if kind else color_of(row), alpha=0.8)
            ax.plot(rate['interval'], [y + shift] * 2, color=INK, lw=1)
            ax.plot(p, y + shift, 'D', color=INK, ms=3.5, mfc='white')
    if label:
        ax.bar(0, 0, color=color, alpha=0.8, label=label)


def said_anyway(ax, rows):
    """How often the plain model says the substitute."""
    for y, row in enumerate(rows):
        if 'substitute_plain' in row:
            ax.plot(row['substitute_plain']['value'], y + 0.17, '|', color='black', ms=11, mew=2)
    ax.plot([], [], '|', color='black', ms=11, mew=2, label='plain model says it')


def series_of(rows, panel):
    """The rows of one panel by what they vary beside the first setting: {label: rows}."""
    series = {}
    for row in rows:
        if row['panel'] == panel:
            series.setdefault(label_of(dict(list(row['varied'].items())[1:])), []).append(row)
    return series


def lines(points, rows, measure):
    """A column a dictionary of the grid: score, and damage, against its first setting."""
    if not any(row['varied'] for row in rows):
        return (boxes if measure == 'sentiment' else bars)(points, rows, measure)
    panels = sorted({row['panel'] for row in rows if row['varied'] and row['panel'] >= 0})
    fig, axes = plt.subplots(2, len(panels), figsize=(1.4 + 2.9 * len(panels), 5.2), sharex='col',
                             sharey='row', squeeze=False, gridspec_kw={'height_ratios': (1.5, 1)})
    styles = {}  # of a series' label, the same in all panels
    for (top, bottom), panel in zip(axes.T, panels):
        series = series_of(rows, panel)
        top.set_title(next(row.get('name', '') for row in rows if row['panel'] == panel))
        for label, some in series.items():
            color, dashes = styles.setdefault(label, (SERIES[len(styles) % 8], DASHES[len(styles) // 8 % 4]))
            curve(top, bottom, some, measure, {'color': color, 'ls': dashes, 'label': label})
        ticks_of_settings(bottom, next(iter(series.values())))
        straight_lines(top, rows, measure)
    scales_of_lines(axes, rows, measure)
    legend_below(fig, axes[0])
    return fig


def curve(top, bottom, rows, measure, style):
    """One series: its score above, its damage below; style is matplotlib's."""
    x = range(len(rows))
    middle, low, high = zip(*(score_of(row, measure) for row in rows))
    top.plot(x, middle, 'o', ms=3.5, lw=1.4, **style)
    top.fill_between(x, low, high, color=style['color'], alpha=0.13, lw=0)
    if all('held_out' in row for row in rows):
        bottom.plot(x, [percent_above(row) for row in rows], 'o', ms=3.5, lw=1.4, **style)


def percent_above(row):
    return 100 * (row['held_out']['value'] - 1)


def ticks_of_settings(ax, rows):
    """The values of the first setting that the rows vary."""
    name = next(iter(rows[0]['varied']))
    values = [brief(row['varied'][name]) for row in rows]
    slant = 90 if len(rows) > 13 else 45 if max(map(len, values)) > 4 else 0
    ax.set_xticks(range(len(rows)), values, rotation=slant)
    ax.set_xlabel(UNITS.get(name, name))


def straight_lines(ax, rows, measure):
    """The controls, and points that stand beside the curves."""
    for row in rows:
        if row['panel'] < 0 or not row['varied']:
            color, style = CONTROLS[row['condition']] if row['panel'] < 0 else (GREY, '-.')
            ax.axhline(score_of(row, measure)[0], color=color, lw=1, ls=style, label=row['label'])


def scales_of_lines(axes, rows, measure):
    percent_scale(axes[1, 0], 'y')  # shared, so that every panel's points are inside
    axes[1, 0].set_ylim(bottom=min([-1, *(1.1 * percent_above(row) for row in rows if 'held_out' in row)]))
    band = 'quartiles' if measure == 'sentiment' else '95 % interval'
    axes[0, 0].set_ylabel(f"{SCORE[measure][1]}\n(band: {band})")
    axes[1, 0].set_ylabel('held-out perplexity,\n% above plain')
    for ax in axes[0]:
        ax.set_ylim((-1.05, 1.05) if measure == 'sentiment' else (-0.03, 1.05))


def score_of(row, measure):
    """-> middle, low, high: median and quartiles of the sentiment, rate and interval of recall."""
    entry = row[SCORE[measure][0]]
    if 'median' in entry:
        return entry['median'], entry['q1'], entry['q3']
    return entry['value'], *entry['interval']


def scatter(points, rows, measure):
    """Fig. 2: each picked context token against its nearest stored token, a panel a layer, all heads."""
    found = rows[0]['look_ups']
    if not found:
        raise ValueError("nothing was looked up, so there is nothing to draw: raise memory_fraction, "
                         "or lower bookkeeping_fraction")
    layers = sorted({r['layer'] for r in found})
    columns = min(4, len(layers))
    lines_of_panels = -(-len(layers) // columns)
    fig, axes = plt.subplots(lines_of_panels, columns, sharex=True, sharey=True, squeeze=False,
                             figsize=(1 + 2.4 * columns, 0.8 + 2.3 * lines_of_panels))
    for ax, layer in zip(axes.flat, layers):
        scatter_of(ax, [r for r in found if r['layer'] == layer])
        ax.set_title(f'layer {layer}')
    for ax in axes.flat[len(layers):]:
        ax.set_visible(False)
    tokens = {r['j']: r['token'] for r in found}
    axes[0, 0].set_yticks(sorted(tokens), [repr(tokens[j])[1:-1] for j in sorted(tokens)])
    fig.supxlabel('nearest stored token, row of the memory', fontsize=9)
    fig.supylabel('context token', fontsize=9)
    fig.tight_layout()
    return fig


def scatter_of(ax, found):
    nearest, tokens = [r['ids'][0] for r in found], [r['j'] for r in found]
    ax.plot(nearest, tokens, 'o', ms=4, alpha=0.35, color=ORANGE, mec='none')
    ax.axline((0, 1), slope=1, color=GREY, lw=0.7, ls=':', zorder=0)  # the same position: row 0 was at 1
    ax.tick_params(axis='y', labelsize=7)


def shares(points, rows, measure):
    """Fig. 4: the share of token-heads that look up, by layer, a line a point."""
    fig, ax = plt.subplots(figsize=(6.5, 3.6))
    for color, row in zip(SERIES * 4, rows):
        by_layer = {int(layer): 100 * share for layer, share in row['shares'].items()}
        layers = sorted(by_layer)
        ax.plot(layers, [by_layer[layer] for layer in layers], 'o-', color=color, label=row['label'], ms=4)
    ax.set_xticks(layers[::1 + len(layers) // 16])
    ax.set_xlabel('layer')
    ax.set_ylabel('token-heads that look up, %')
    ax.set_ylim(0)
    ax.legend(fontsize=8)
    return fig


def look_ups(points, rows, measure):
    """Tables 2 and 3 as a picture: for each look-up its stored tokens, as large as their rank."""
    count = len(rows[0]['look_ups'])
    found = rows[0]['look_ups'][:MOST_DRAWN]
    fig, ax = plt.subplots(figsize=(10, 1.2 + 0.3 * len(found)))
    for y, r in enumerate(found):
        for n, (row, token, rank) in enumerate(zip(r['ids'], r['tokens'], r['ranks'])):
            ax.plot(row, y, 'o', ms=4 + 10 * rank ** 0.5, color=ORANGE, alpha=0.6, mec='none')
            ax.annotate(token.strip() or repr(token), (row, y), xytext=(0, 5 + 5 * (n % 2)),
                        textcoords='offset points', fontsize=6.5, ha='center')
    who = [f"layer {r['layer']} head {r['h']}, {r['token']!r} at {r['j']}" for r in found]
    ax.set_yticks(range(len(found)), who)
    ax.set_ylim(len(found) - 0.4, -0.8)
    ax.set_title(rows[0]['label'] if len(rows) > 1 else '')
    left_out = f'; the first {MOST_DRAWN} of {count} look-ups' if count > MOST_DRAWN else ''
    ax.set_xlabel(f'row of the memory; area: its rank (Eq. 5){left_out}')
    return fig


def first_tokens(points, rows, measure):
    """Fig. 14: how often each token comes first."""
    row = next(row for row in rows if row['panel'] >= 0)
    found = row['first_tokens'][:20]
    total = sum(count for _, count in row['first_tokens'])
    fig, ax = plt.subplots(figsize=(7, 0.9 + 0.22 * len(found)))
    ax.barh(range(len(found)), [100 * count / total for _, count in found], color=GREY)
    ax.set_yticks(range(len(found)), [repr(token) for token, _ in found])
    ax.invert_yaxis()
    ax.set_xlabel(f'first token, % of {total} texts ({len(row["first_tokens"])} different ones)')
    return fig


def cases(points, rows, measure):
    """Of each case the effect of each row, with its interval over seeds; the mean over cases, with theirs."""
    if not any('by_case' in row for row in rows):  # nothing to compare with: the plain model is not there
        return (boxes if measure == 'sentiment' else bars)(points, rows, measure)
    rows = [row for row in rows if 'by_case' in row and row['condition'] != 'plain']
    names = list(rows[0]['by_case'])
    fig, axes = plt.subplots(1, len(rows), figsize=(2 + 1.9 * len(rows), 1.2 + 0.2 * len(names)), sharey=True,
                             sharex=True, squeeze=False)
    for ax, row in zip(axes[0], rows):
        for y, name in enumerate(names):
            effect = row['by_case'][name]['effect']
            ax.plot(effect['interval'], [y, y], color=color_of(row), lw=1.2)
            ax.plot(effect['value'], y, 'o', color=color_of(row), ms=3.5)
        ax.axvspan(*row['effect']['interval'], color=color_of(row), alpha=0.25, lw=0)
        ax.axvline(0, color=INK, lw=0.7)
        ax.set_title(row['label'].replace('memory of ', 'memory of\n'), fontsize=8)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    fig.supxlabel(f'change of the {SCORE[measure][1]} (whiskers: 95 % over seeds; band: over cases)',
                  fontsize=8)
    fig.tight_layout()
    return fig


FIGURES = {'sentiment': {'boxes': boxes, 'lines': lines, 'cases': cases},
           'recall': {'bars': bars, 'lines': lines, 'first_tokens': first_tokens, 'cases': cases},
           'facts': {'bars': bars, 'lines': lines},
           'library': {'library': library, 'recalled': recalled, 'haystack': haystack,
                       'abstaining': abstaining, 'lines': lines},
           'talk': {'talk': talk},
           'look_ups': {'look_ups': look_ups, 'scatter': scatter, 'shares': shares}}
