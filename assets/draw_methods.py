"""
Draws assets/methods.png, the README's picture of the four methods: what is picked, searched, ranked and replaced.

$ python assets/draw_methods.py

Nothing in it is measured: bars and shares are made up, K is 2. One unit is 100 pixels, y grows downwards.
"""
import os

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle  # noqa: E402

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'methods.png')
ink, quiet, line, ground = '#1f2933', '#56616c', '#c5ccd3', '#f5f6f7'
context, context_pale = '#2b5c8a', '#d6e3ef'  # dark and square: still told apart in grey
memory, memory_pale = '#f2a541', '#fdf0dc'  # light and round
width, height, pitch, cell = 18, 12.2, 0.49, 0.43
panels = (3.45, 7.15, 10.85, 14.5)  # left edges
found = (2, 4)  # columns of the store that the search of methods 1 to 3 finds

plt.rcParams.update({'font.family': 'DejaVu Sans', 'mathtext.fontset': 'dejavusans', 'text.color': ink})
fig = plt.figure(figsize=(width / 1.5, height / 1.5), dpi=150)
ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
ax.axis('off')


def say(x, y, text, size=12, color=ink, ha='left', **more):
    ax.text(x, y, text, size=size, color=color, ha=ha, va='center', zorder=5, **more)


def box(x, y, label='', kind='context', strong=False, own=0.0, w=cell, h=0.5):
    """A key, value or query with its left upper corner at x, y. own: the share of the token's own value, filled from below."""
    dark, pale = (context, context_pale) if kind == 'context' else (memory, memory_pale)
    style = 'square,pad=0' if kind == 'context' else 'round,pad=0,rounding_size=0.13'
    patch = FancyBboxPatch((x, y), w, h, boxstyle=style, fc=dark if strong else pale, ec=ink if strong else line, lw=1.3, zorder=3)
    ax.add_patch(patch)
    if own:
        share = ax.add_patch(Rectangle((x, y + h * (1 - own)), w, h * own, fc=context, zorder=3.5))
        share.set_clip_path(patch)
    say(x + w / 2, y + h / 2 - own * h / 2, label, 11, 'white' if strong and kind == 'context' else ink, 'center')


def arrow(start, end, color=ink, lw=1.6, bend=0.0, head=True):
    style = '-|>,head_length=5,head_width=2.6' if head else '-'
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle=style, connectionstyle=f'arc3,rad={bend}', color=color, lw=lw,
                                 shrinkA=1, shrinkB=1, zorder=4))


def middle(x, column):
    return x + column * pitch + cell / 2


def draw_write():
    """The strip above all: how a store comes to be."""
    ax.add_patch(FancyBboxPatch((0.25, 0.25), width - 0.5, 1.75, boxstyle='round,pad=0,rounding_size=0.15', fc=ground, ec='none'))
    say(0.5, 0.85, 'write', 15, weight='bold')
    say(0.5, 1.3, 'a text runs through', 12, quiet)
    say(0.5, 1.6, 'the plain model once', 12, quiet)
    for n, token in enumerate((r'\n', 'A', 'text', 'to', 'keep')):
        box(3.45 + n * 0.75, 0.87, token, w=0.68)
    arrow((7.2, 1.12), (7.8, 1.12))
    box(7.85, 0.72, 'frozen GPT-2', w=1.9, h=0.8)
    arrow((9.8, 1.12), (10.4, 1.12))
    for n in range(5):
        for y, letter in ((0.6, 'k'), (1.14, 'v')):
            box(10.5 + n * pitch, y, f'${letter}_{n}$' if n else '', 'memory' if n else 'context', n > 0)
    arrow((10.45, 1.7), (10.98, 0.54), lw=2, head=False)
    say(13.2, 0.7, 'of the chosen layers, in each head,', 12)
    say(13.2, 1.08, '$M$ keys and values are stored', 12)
    say(13.2, 1.52, 'the bookkeeping row is left out', 12, quiet)


def draw_steps():
    """The column at the left: what the rows show, for methods 1 to 3."""
    steps = (
        (3.65, 'pick', 'Eq. 4', ('token $j$, where row $i$ has', r'$S_{ij} \geq 1\,/\,(\mathrm{MF} \cdot t)$',
                                 'the first token only', r'where $S_{i0} > \mathrm{BF}$')),
        (5.9, 'search', '', ('$K$ stored keys nearest to $k_j$', r'by $\Vert k_j - k_n \Vert^2$')),
        (7.35, 'rank', 'Eq. 5', (r'softmax of $\mathrm{TS} \cdot q_j k_n / \sqrt{hs}$', "$q_j$: the token's own query")),
        (9.05, 'replace', '', ("$v'_j$ for $v_j$", 'in this head')))
    for y, name, equation, lines in steps:
        say(0.35, y, name, 15, weight='bold')
        say(3.0, y, equation, 11, quiet, 'right')
        for n, text in enumerate(lines):
            say(0.35, y + 0.4 + 0.36 * n, text, 11)


def draw_bars(x, y, weights, columns, kind='context', strong=()):
    for weight, column in zip(weights, columns):
        color = (context, context_pale) if kind == 'context' else (memory, memory_pale)
        ax.add_patch(Rectangle((x + column * pitch, y - weight), cell, weight, fc=color[column not in strong], ec=line, lw=1))


def draw_row(x, y, letter, strong=()):
    """The context's keys or values of one head in one layer, newest row last."""
    for column, name in enumerate(('0', '1', 'j', '', 'i')):
        box(x + column * pitch, y, f'${letter}_{name}$' if name else '...', strong=column in strong)


def draw_store(x, found):
    for column, name in enumerate(('1', '2', 'n', '', 'n', 'M')):
        for y, letter in ((6.1, 'k'), (6.64, 'v')):
            box(x + column * pitch, y, f'${letter}_{name}$' if name else '...', 'memory', column in found)


def draw_replacing(x, own_candidate, blend):
    """Methods 1 to 3 in the panel at x. own_candidate: the token's own value is ranked too; blend: RF keeps some of it."""
    j = middle(x, 2)
    draw_bars(x, 4.55, (0.75, 0.14, 0.52, 0.2, 0.26), range(5), strong=(2,))
    arrow((x + 6 * pitch, 4.1), (middle(x, 4) + 0.3, 4.1))
    box(x + 6 * pitch, 3.85, '$q_i$')
    draw_row(x, 4.6, 'k', strong=(2,))
    for column in found:
        arrow((j, 5.1), (middle(x, column), 6.08), memory)
    draw_store(x, found)
    for letter, y in (('k', 6.1), ('v', 6.64)) if own_candidate else ():
        box(x + 6.25 * pitch, y, f'${letter}_j$', strong=True)
    own = 0.3 if own_candidate else 0
    for column, lw in zip(found, (4, 2)):
        arrow((middle(x, column), 7.15), (j, 8.15), memory, lw, head=False)
    if own_candidate:
        arrow((middle(x, 6.25), 7.15), (j + 0.1, 8.2), context, 3, head=False)
    box(x + 2 * pitch, 8.2, '$m$', 'memory', True, own)
    arrow((j, 8.7), (j, 9.5))
    if blend:
        box(x + 4 * pitch, 8.2, '$v_j$', strong=True)
        arrow((middle(x, 4), 8.7), (j + 0.15, 9.5), context)
        say(j - 0.12, 9.05, r'$1 - \mathrm{RF}$', 11, ha='right')
        say(middle(x, 3) + 0.3, 9.2, r'$\mathrm{RF}$', 11)
        own = own + 0.15
    draw_row(x, 9.55, 'v')
    box(x + 2 * pitch, 9.55, "$v'_j$", 'memory', True, own)


def draw_extended(x):
    """Method 4 in the panel at x: one softmax over context and stored keys."""
    say(x, 3.8, 'nothing is picked', 12, quiet)
    draw_row(x, 4.6, 'k')
    box(x + 6 * pitch, 4.6, '$q_i$', strong=True)
    for column in (3, 5):
        pass
    draw_store(x, (2, 4))
    for column in found:
        arrow((middle(x, 6), 5.1), (middle(x, column), 6.08), context)
    for column, to in zip(found, (5.3, 6.3)):
        arrow((middle(x, column), 7.15), (middle(x, to), 8.7), memory, 2)
    draw_bars(x, 9.5, (0.5, 0.1, 0.3, 0.15, 0.2), range(5), strong=range(5))
    draw_bars(x, 9.5, (0.65, 0.4), (5.3, 6.3), 'memory', (5.3, 6.3))
    draw_row(x, 9.55, 'v')
    for column in (5.3, 6.3):
        box(x + column * pitch, 9.55, '$v_n$', 'memory', True)


def main():
    draw_write()
    draw_steps()
    titles = ('method 1', 'method 2', 'method 3', 'method 4')
    for x, title in zip(panels, titles):
        say(x, 2.6, title, 15, weight='bold')
    draw_replacing(panels[0], True, False)
    draw_replacing(panels[1], False, True)
    draw_replacing(panels[2], True, True)
    draw_extended(panels[3])
    fig.savefig(out)


if __name__ == '__main__':
    main()
