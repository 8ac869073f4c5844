"""
The figures of an experiment, from the rows of report.py; each returns a matplotlib figure.

Grey is a control, orange a memory, blue what is read beside it. Whiskers are 95 % intervals unless they belong to a box.
"""
import io

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from lab.grid import brief, label_of  # noqa: E402

INK, GREY, BLUE, ORANGE = '#1f2933', '#9aa5b1', '#2b5c8a', '#dc8a1c'
SERIES = [ORANGE, BLUE, '#5b8c5a', '#a23b52', '#6c5b9e', '#3b3b3b', '#c0a030', '#4aa3a3']
plt.rcParams.update({'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False, 'axes.edgecolor': GREY, 'axes.titlesize': 10,
                     'text.color': INK, 'axes.labelcolor': INK, 'xtick.color': INK, 'ytick.color': INK, 'legend.frameon': False})
CONTROLS = {'plain': (INK, '--'), 'prompt': (INK, ':'), 'unrelated': (GREY, '--'), 'opposite': (GREY, ':'), 'steering': (GREY, '-')}
UNITS = {'distance': 'tokens between fact and question', 'texts_together': 'texts in one memory, about 72 tokens each'}
SCORE = {'sentiment': ('compound', 'VADER compound'), 'recall': ('right', 'share of right texts'),
         'facts': ('right', 'share of right answers')}


def png(fig):
    """A figure -> the bytes of a small PNG."""
    from PIL import Image
    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, dpi=110, bbox_inches='tight')
    plt.close(fig)
    Image.open(raw).convert('RGB').quantize(64, dither=Image.Dither.NONE).save(small, 'PNG', optimize=True)
    return small.getvalue()


def color_of(row):
    return ORANGE if row['condition'] == 'memory' else GREY


def damage_axis(ax, rows):
    """Held-out perplexity of each row, in percent above the plain model's, on a scale that shows 1 and 1000."""
    for y, row in enumerate(rows):
        if 'held_out' in row:
            value, (low, high) = (100 * (np.array(x) - 1) for x in (row['held_out']['value'], row['held_out']['interval']))
            ax.plot([low, high], [y, y], color=color_of(row), lw=1.5)
            ax.plot(value, y, 'o', color=color_of(row), ms=4)
    percent_scale(ax, 'x')
    ax.set_title('held-out perplexity')
    ax.set_xlabel('% above plain')


def percent_scale(ax, axis):
    """Linear up to 10 % and logarithmic beyond, where there is anything beyond."""
    if max(map(abs, getattr(ax, f'get_{axis}lim')())) < 30:
        return
    getattr(ax, f'set_{axis}scale')('symlog', linthresh=10)
    low, high = getattr(ax, f'get_{axis}lim')()
    ticks = [t for t in (-10, 0, 10, 100, 1000, 10_000, 100_000) if low <= t <= high or t == 0]
    getattr(ax, f'set_{axis}ticks')(ticks, [f'{t:g}' for t in ticks])
    getattr(ax, f'{axis}axis').set_minor_locator(matplotlib.ticker.NullLocator())


def row_labels(ax, rows):
    ax.set_yticks(range(len(rows)), [row['label'] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)


def boxes(points, rows, measure):
    """The write-up's box plots of the four VADER scores, a box a row, whiskers at the 5th and 95th percentile; and the damage done."""
    names = 'compound', 'pos', 'neu', 'neg', 'repetition'
    fig, axes = plt.subplots(1, 6, figsize=(12, 1.1 + 0.27 * len(rows)), sharey=True, gridspec_kw={'width_ratios': (2, 1, 1, 1, 1, 1.3)})
    for ax, name in zip(axes, names):
        drawn = ax.boxplot([point['record']['samples'][name] for point in points], positions=range(len(points)), orientation='horizontal',
                           widths=0.6, whis=(5, 95), showfliers=False, patch_artist=True, medianprops={'color': INK, 'lw': 1.5})
        for box, row in zip(drawn['boxes'], rows):
            box.set(facecolor=color_of(row), edgecolor=INK, alpha=0.75, lw=0.7)
        ax.set_xlim((-1.05, 1.05) if name == 'compound' else (-0.03, 1.03))
        ax.set_title(name)
        ax.set_xlabel('share of 4-grams' if name == 'repetition' else 'VADER score' if name != 'compound'
                      else 'VADER score (box: quartiles, whiskers: 5-95 %)')
        if name == 'compound':
            ax.axvline(0, color=GREY, lw=0.7, zorder=0)
    damage_axis(axes[5], rows)
    row_labels(axes[0], rows)
    return fig


def bars(points, rows, measure):
    """A bar a row: the share that is right with its interval, its share of probability as a diamond; and the damage."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 1.1 + 0.27 * len(rows)), sharey=True, gridspec_kw={'width_ratios': (2.4, 1)})
    both = any('substitute_right' in row for row in rows)
    kinds = [('', 'the answer', None), ('substitute_', 'what stands in its place', BLUE)] if both else [('', '', None)]
    for n, (kind, _, color) in enumerate(kinds):
        height = 0.7 / len(kinds)
        for y, row in enumerate(rows):
            if f'{kind}right' in row:
                at, entry, p = y + (n - (len(kinds) - 1) / 2) * height, row[f'{kind}right'], row[f'{kind}probability']
                low, high = entry['interval']
                axes[0].barh(at, entry['value'], height, color=color or color_of(row), alpha=0.8)
                axes[0].plot([low, high], [at, at], color=INK, lw=1)
                axes[0].plot(p if isinstance(p, float | int) else p['value'], at, 'D', color=INK, ms=3.5, mfc='white')
    for y, row in enumerate(rows):
        if 'substitute_plain' in row:
            axes[0].plot(row['substitute_plain']['value'], y + 0.17, '|', color='black', ms=11, mew=2)
    axes[0].plot([], [], 'D', color=INK, ms=3.5, mfc='white', label='share of probability')
    if both:
        axes[0].plot([], [], '|', color='black', ms=11, mew=2, label='plain model says it')
    for _, label, color in kinds if both else []:
        axes[0].bar(0, 0, color=color or ORANGE, alpha=0.8, label=label)
    axes[0].legend(loc='upper left', bbox_to_anchor=(0, -0.55 / (1.1 + 0.27 * len(rows))), ncols=4, fontsize=8)
    axes[0].set_xlim(0, 1.02)
    axes[0].set_title(SCORE[measure][1])
    damage_axis(axes[1], rows)
    row_labels(axes[0], rows)
    return fig


def series_of(rows, panel):
    """The rows of one panel by what they vary beside the first setting: {label: rows}."""
    series = {}
    for row in rows:
        if row['panel'] == panel:
            series.setdefault(label_of(dict(list(row['varied'].items())[1:])), []).append(row)
    return series


def lines(points, rows, measure):
    """A column for each dictionary of the grid: score, with its quartiles or interval, and damage against its first setting."""
    if not any(row['varied'] for row in rows):
        return (boxes if measure == 'sentiment' else bars)(points, rows, measure)
    panels = sorted({row['panel'] for row in rows if row['varied'] and row['panel'] >= 0})
    colors = {}  # of a series' label, the same in all panels
    fig, axes = plt.subplots(2, len(panels), figsize=(1.4 + 2.9 * len(panels), 5.2), sharex='col', sharey='row', squeeze=False,
                             gridspec_kw={'height_ratios': (1.5, 1)})
    for column, panel in enumerate(panels):
        top, bottom = axes[:, column]
        series = series_of(rows, panel)
        for label, some in series.items():
            color, style = colors.setdefault(label, (SERIES[len(colors) % 8], ('-', '--', ':', '-.')[len(colors) // 8 % 4]))
            x = range(len(some))
            middle, low, high = zip(*(score_of(row, measure) for row in some))
            top.plot(x, middle, 'o', ls=style, color=color, ms=3.5, lw=1.4, label=label)
            top.fill_between(x, low, high, color=color, alpha=0.13, lw=0)
            if all('held_out' in row for row in some):
                bottom.plot(x, [100 * (row['held_out']['value'] - 1) for row in some], 'o', ls=style, color=color, ms=3.5, lw=1.4)
        some = next(iter(series.values()))
        name = next(iter(some[0]['varied']))
        bottom.set_xticks(range(len(some)), [brief(row['varied'][name]) for row in some],
                          rotation=45 if max(len(brief(row['varied'][name])) for row in some) > 4 else 0)
        bottom.set_xlabel(UNITS.get(name, name))
        for row in rows:
            if row['panel'] < 0:
                color, style = CONTROLS[row['condition']]
                top.axhline(score_of(row, measure)[0], color=color, lw=1, ls=style, label=row['label'])
        for row in rows:
            if not row['varied'] and row['panel'] >= 0:  # a point beside the curves
                top.axhline(score_of(row, measure)[0], color=GREY, lw=1, ls='-.', label=row['label'])
    percent_scale(axes[1, 0], 'y')  # shared, so that every panel's points are inside
    axes[1, 0].set_ylim(bottom=min([-1, *(110 * (row['held_out']['value'] - 1) for row in rows if 'held_out' in row)]))
    axes[0, 0].set_ylabel(f"{SCORE[measure][1]}\n(band: {'quartiles' if measure == 'sentiment' else '95 % interval'})")
    axes[1, 0].set_ylabel('held-out perplexity,\n% above plain')
    for ax in axes[0]:
        ax.set_ylim((-1.05, 1.05) if measure == 'sentiment' else (-0.03, 1.05))
    handles = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels()) if label}
    fig.legend(handles.values(), handles.keys(), loc='upper center', bbox_to_anchor=(0.5, 0.02), ncols=min(4, max(1, len(handles))),
               fontsize=8)
    fig.align_ylabels()
    return fig


def score_of(row, measure):
    """-> middle, low, high: median and quartiles of the sentiment, rate and interval of recall."""
    entry = row[SCORE[measure][0]]
    return (entry['median'], entry['q1'], entry['q3']) if 'median' in entry else (entry['value'], *entry['interval'])


def scatter(points, rows, measure):
    """Fig. 2: each picked context token against its nearest stored token, a panel a layer, all heads."""
    found = points[0]['record']['look_ups']
    if not found:
        raise ValueError("nothing was looked up, so there is nothing to draw: raise memory_fraction, or lower bookkeeping_fraction")
    layers = sorted({r['layer'] for r in found})
    columns = min(4, len(layers))
    fig, axes = plt.subplots(-(-len(layers) // columns), columns, figsize=(1 + 2.4 * columns, 0.8 + 2.3 * -(-len(layers) // columns)),
                             sharex=True, sharey=True, squeeze=False)
    for ax, layer in zip(axes.flat, layers):
        some = [r for r in found if r['layer'] == layer]
        ax.plot([r['ids'][0] for r in some], [r['j'] for r in some], 'o', ms=4, alpha=0.35, color=ORANGE, mec='none')
        ax.axline((0, 1), slope=1, color=GREY, lw=0.7, ls=':', zorder=0)  # the same position: row 0 was at position 1
        ax.tick_params(axis='y', labelsize=7)
        ax.set_title(f'layer {layer}')
    for ax in axes.flat[len(layers):]:
        ax.set_visible(False)
    tokens = {r['j']: r['token'] for r in found}
    axes[0, 0].set_yticks(sorted(tokens), [repr(tokens[j])[1:-1] for j in sorted(tokens)])
    fig.supxlabel('nearest stored token, row of the memory', fontsize=9)
    fig.supylabel('context token', fontsize=9)
    fig.tight_layout()
    return fig


def shares(points, rows, measure):
    """Fig. 4: the share of token-heads that look up, by layer, a line a point."""
    fig, ax = plt.subplots(figsize=(6.5, 3.6))
    for color, row in zip(SERIES * 4, rows):
        layers = sorted(map(int, row['shares']))
        by_layer = {int(layer): share for layer, share in row['shares'].items()}
        ax.plot(layers, [100 * by_layer[layer] for layer in layers], 'o-', color=color, label=row['label'], ms=4)
    ax.set_xticks(layers)
    ax.set_xlabel('layer')
    ax.set_ylabel('token-heads that look up, %')
    ax.set_ylim(0)
    ax.legend(fontsize=8)
    return fig


def look_ups(points, rows, measure):
    """Tables 2 and 3 as a picture: for each look-up its stored tokens, as large as their rank."""
    found = points[0]['record']['look_ups']
    fig, ax = plt.subplots(figsize=(10, 1.2 + 0.3 * min(40, len(found))))
    for y, r in enumerate(found[:40]):
        for n, (row, token, rank) in enumerate(zip(r['ids'], r['tokens'], r['ranks'])):
            ax.plot(row, y, 'o', ms=4 + 10 * rank ** 0.5, color=ORANGE, alpha=0.6, mec='none')
            ax.annotate(token.strip() or repr(token), (row, y), xytext=(0, 5 + 5 * (n % 2)), textcoords='offset points', fontsize=6.5,
                        ha='center')
    ax.set_yticks(range(len(found[:40])), [f"layer {r['layer']} head {r['h']}, {r['token']!r} at {r['j']}" for r in found[:40]])
    ax.set_ylim(len(found[:40]) - 0.4, -0.8)
    ax.set_title(rows[0]['label'] if len(rows) > 1 else '')
    ax.set_xlabel('row of the memory; area: its rank (Eq. 5)' + (f'; the first 40 of {len(found)} look-ups' if len(found) > 40 else ''))
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


FIGURES = {'sentiment': {'boxes': boxes, 'lines': lines}, 'recall': {'bars': bars, 'lines': lines, 'first_tokens': first_tokens},
           'facts': {'bars': bars, 'lines': lines}, 'look_ups': {'look_ups': look_ups, 'scatter': scatter, 'shares': shares}}


SCORES = {'sentence_compound': 'the mean compound per sentence', 'probability': 'p(answer)'}


def maps(effect, damage, name):
    """The finder's: what each head does alone, layer x head with all heads in the last column, and at what damage."""
    fig, axes = plt.subplots(1, 2, figsize=(3 + 0.75 * effect.shape[1], 1.4 + 0.36 * len(effect)))
    for ax, values, title, cmap, fmt in ((axes[0], effect, f'change of {SCORES[name]}', 'PuOr_r', '{:+.2f}'),
                                         (axes[1], damage, 'held-out perplexity, % above plain', 'Oranges', '{:+.0f}')):
        most = np.nanmax(np.abs(values)) or 1
        ax.imshow(values, cmap=cmap, vmin=-most if cmap == 'PuOr_r' else 0, vmax=most, aspect='auto')
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                ax.text(x, y, fmt.format(value), ha='center', va='center', fontsize=7, color='white' if abs(value) > 0.6 * most else INK)
        ax.set_xticks(range(values.shape[1]), [*range(values.shape[1] - 1), 'all'])
        ax.set_yticks(range(len(values)))
        ax.set_xlabel('head that reads')
        ax.set_title(title)
    axes[0].set_ylabel('layer that reads')
    fig.tight_layout()
    return fig


def speed_of_writing(model):
    """bench.py: bars of ms a row-token, a panel for each workload, with the machine's limits."""
    works = model['write']
    fig, axes = plt.subplots(len(works), 1, figsize=(7, sum(0.7 + 0.17 * len(work['table']) for work in works)), squeeze=False,
                             height_ratios=[2 + len(work['table']) for work in works], layout='constrained')
    for ax, work in zip(axes[:, 0], works):
        table = work['table']
        names = [row['name'] for row in table]
        colors = [BLUE if 'plain' in name else GREY if name[:4] in ('Hugg', 'ever') else ORANGE for name in names]
        middle, low, high = ([row['ms'][i] for row in table] for i in range(3))
        ax.barh(names, middle, color=colors, xerr=[[m - q for m, q in zip(middle, low)], [q - m for m, q in zip(middle, high)]],
                error_kw={'lw': 1, 'ecolor': INK})
        for dtype, style in (('float32', '--'), ('bfloat16', ':')):
            f = model['floors'][dtype]
            limit = f['read_ms'] if work['rows'] == 1 else f['arithmetic_ms']
            ax.axvline(limit, color=INK, ls=style, lw=1, label=f"machine's limit, {dtype}")
        if max(middle) > 15 * min(middle):
            ax.set_xscale('log')
        ax.invert_yaxis()
        ax.set_title(f"{work['rows']} row{'s' * (work['rows'] > 1)}, prompt of {work['prompt']} tokens, {work['new']} new", loc='left')
        ax.set_xlabel('ms a row-token, median and quartiles')
        ax.tick_params(axis='y', labelsize=7)
    axes[0, 0].legend(loc='lower right', fontsize=7)
    return fig


def speed_curves(model):
    """bench.py: time and look-ups a token, against the length of the context and the size of the memory."""
    fig, axes = plt.subplots(2, 2, figsize=(8, 5), sharex='col', layout='constrained')
    for column, (name, key, label) in enumerate((('context', 'context', 'context, tokens'), ('memory', 'stored_tokens', 'stored tokens'))):
        rows = model['curves'][name]
        x = [row[key] for row in rows]
        for color, contender in zip((INK, *SERIES), rows[0]['ms']):
            middle, low, high = ([row['ms'][contender][i] for row in rows] for i in range(3))
            axes[0, column].plot(x, middle, 'o-', ms=3, color=color, label=contender)
            axes[0, column].fill_between(x, low, high, color=color, alpha=0.2, lw=0)
            if contender != 'plain':
                axes[1, column].plot(x, [row['searches'][contender] for row in rows], 'o-', ms=3, color=color)
        other = rows[0]['stored_tokens'] if name == 'context' else rows[0]['context']
        axes[0, column].set_title(f"{other} {'stored tokens' if name == 'context' else 'tokens of context'}", loc='left')
        axes[1, column].set_xlabel(label)
        if name == 'memory':
            axes[0, column].set_xscale('log')
        axes[0, column].set_ylim(0)
        axes[1, column].set_ylim(0)
        axes[1, column].axhline(model['n_head'], color=GREY, ls=':', lw=1, label='n_head')
    axes[0, 0].set_ylabel('ms a token, one row')
    axes[1, 0].set_ylabel('look-ups a token, a layer')
    axes[0, 0].legend(fontsize=7)
    axes[1, 0].legend(fontsize=7)
    return fig
