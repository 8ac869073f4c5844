"""
Figures of many texts in one memory: what is found and answered, by how many there are.

As figures.py's, from points and the rows of rows.py.
"""
from operator import itemgetter

import numpy as np

from lab.conditions import OF_MANY_TEXTS
from lab.drawing import BLUE, GREY, INK, ORANGE, SERIES, legend_below, logarithmic, plt
from lab.haystack import DEPTHS, depth_of

NAMED = SERIES[4:] + SERIES[:1]  # of what a grid names, beside those of conditions
OF_LIBRARY = {'memory': ORANGE, 'bm25': BLUE, 'prompt': '#5b8c5a', 'right': '#a23b52', 'plain': GREY}


def library(points, rows, measure):
    """Right text found, and right answers, against the number of texts in one memory."""
    fig, axes = by_size(points, rows, {'found': 'right text found', 'right': 'answers with the right one'})
    most = max(point['settings']['texts_together'] for point in points)
    sizes = np.geomspace(1, max(2, most), 50)
    axes[0].plot(sizes, 1 / sizes, ls=':', color=INK, lw=1, label='chance')
    legend_below(fig, axes)
    return fig


def recalled(points, rows, measure):
    """Something recalled, with the right text there and taken out, against the number of texts."""
    fig, axes = by_size(points, rows, {'recalled': 'something is recalled',
                                       'recalled_without': 'the same, the right text taken out'})
    legend_below(fig, axes)
    return fig


def by_size(points, rows, titles):
    """-> a figure with an axes for each {what of a row: title}."""
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharex=True, sharey=True)
    for (how, style), some in series_of(points, rows).items():
        for ax, name in zip(axes, titles):
            across(ax, sorted(some, key=lambda pair: pair[0]), name, how, dict(style))
    for ax, title in zip(axes, titles.values()):
        ax.set_title(title)
        ax.set_xlabel('texts in one memory')
        ax.set_ylim(-0.03, 1.05)
    logarithmic(axes[0], 'x')  # which both share
    axes[0].set_ylabel('share of questions (whiskers: 95 % interval)')
    return fig, axes


def series_of(points, rows):
    """-> {(condition, its style): [(texts, row)]}: a dictionary of the grid that has a name is one series."""
    series, named = {}, {}
    for row, point in zip(rows, points):
        name, how = row.get('name', ''), row['condition']
        color = OF_LIBRARY[how] if not name else named.setdefault(name, NAMED[len(named) % len(NAMED)])
        style = ('color', color), ('label', name or OF_MANY_TEXTS[how])
        series.setdefault((how, style), []).append((point['settings']['texts_together'], row))
    return series


def across(ax, rows, name, how, style):
    """One series, [(texts, row)]: a curve where something chooses a text, else a level."""
    told = [(size, row[name]) for size, row in rows if name in row]
    if told and how not in ('memory', 'bm25'):
        ax.axhline(told[0][1]['value'], ls='--', lw=1.2, **style)
    elif told:
        sizes, low, high = zip(*((size, *entry['interval']) for size, entry in told))
        values = np.array([entry['value'] for _, entry in told])
        ax.errorbar(sizes, values, np.abs([values - low, high - values]), fmt='o-', ms=4, lw=1.4, capsize=2,
                    **style)


def abstaining(points, rows, measure):
    """Questions that recall something with their text there, against those without it, by the threshold."""
    fig, ax = plt.subplots(figsize=(5.2, 4.2), layout='constrained')
    for color, row in zip(SERIES, (row for row in rows if 'threshold_at_a_tenth' in row)):
        there, gone = (np.array(row['samples'][name]) for name in ('evidence', 'evidence_without'))
        thresholds = np.unique(np.concatenate((there, gone, [np.inf])))
        ax.plot(*((some >= thresholds[:, None]).mean(1) for some in (gone, there)), color=color)
        least = row['threshold_at_a_tenth']
        ax.plot((gone >= least).mean(), (there >= least).mean(), 'o', color=color,
                label=f"{row['recalled_at_a_tenth']['value']:.2f} at recall_threshold {least:.2f}")
    ax.plot((0, 1), (0, 1), ls=':', color=INK, lw=1, label='chance')
    ax.set_xlabel('share of questions that recall some text,\nwith the right one taken out')
    ax.set_ylabel('with the right one there')
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
    ax.legend(loc='lower right', fontsize=8)
    return fig


def haystack(points, rows, measure):
    """Pass keys found and said, by how many texts the memory holds and where in its text the key stands."""
    told = ((point['settings']['texts_together'], row) for point, row in zip(points, rows))
    sizes, ours = zip(*sorted((one for one in told if one[1]['condition'] == 'memory'), key=itemgetter(0)))
    fig, axes = plt.subplots(1, 2, figsize=(2.2 + 1.5 * len(ours), 3.2), sharey=True, layout='constrained')
    for ax, (name, title) in zip(axes, {'found': 'its text is found', 'right': 'the key is said'}.items()):
        by_depth = np.array([[np.mean(row['samples'][name][n::DEPTHS]) for row in ours]
                             for n in range(DEPTHS)])  # (DEPTHS, sizes)
        drawn = ax.imshow(by_depth, cmap='Oranges', vmin=0, vmax=1, aspect='auto')
        for (y, x), value in np.ndenumerate(by_depth):
            ax.text(x, y, f'{value:.2f}', ha='center', va='center', color='white' if value > 0.6 else INK)
        ax.set_xticks(range(len(ours)), [f"{row['stored_tokens']:,.0f}\nin {size:,}"
                                         for size, row in zip(sizes, ours)])
        ax.set_xlabel('tokens in texts of the memory')
        ax.set_title(title)
    axes[0].set_yticks(range(DEPTHS), [f'{depth_of(n):.2f}' for n in range(DEPTHS)])
    axes[0].set_ylabel("the key's place in its text\n(0: in front, 1: behind)")
    fig.colorbar(drawn, ax=axes, label='share of questions')
    return fig
