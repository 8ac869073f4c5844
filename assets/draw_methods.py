"""
Draws assets/methods.png, the README's picture of the methods: what is picked, searched, ranked, replaced.

$ python assets/draw_methods.py

Bars and shares are made up, K is 2. One unit is 100 pixels, y grows downwards, columns count from a
panel's left edge x.
"""
import os
import re

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'methods.png')
ink, quiet, edge, ground = '#1f2933', '#4d5863', '#b0bac4', '#f5f6f7'
# pale and strong, far apart in grey too
fills = {'context': ('#d6e3ef', '#2b5c8a'), 'memory': ('#fdf0dc', '#f2a541')}
context, memory = '#2b5c8a', '#dc8a1c'  # of arrows
width, height, pitch, cell, tall = 18, 11.7, 0.48, 0.42, 0.5
s_j, RF = 0.2, 0.2  # shares of the token's own value
fig = plt.figure(figsize=(width / 1.5, height / 1.5), dpi=150)
ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), frame_on=False)


def say(x, y, text, color=ink, ha='left', size=11, weight='normal', step=0.36):
    text = re.sub(r'\b(MF|BF|TS|RF)\b', r'\\mathrm{\1}', text)  # settings stand upright, vectors lean
    for n, words in enumerate(text.split('\n')):
        ax.text(x, y + step * n, words, size=size, color=color, ha=ha, weight=weight, va='center', zorder=5)


def shape(x, y, w, h, fill, outline=edge, rounding=0.0, z=3.0):
    style = f'round,pad=0,rounding_size={rounding}'
    return ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, fc=fill, ec=outline, lw=1.3, zorder=z))


def box(x, y, text, kind='context', strong=True, share=0.0, w=cell):
    """A vector, its upper left corner at x, y: square from the context, round from the memory.

    share: so much of it, from below, has the context's colour.
    """
    outline, rounding = ink if strong else edge, 0.13 if kind == 'memory' else 0
    patch, level = shape(x, y, w, tall, fills[kind][strong], outline, rounding), tall * (1 - share)
    ax.add_patch(Rectangle((x, y + level), w, tall * share, fc=context, zorder=3.5)).set_clip_path(patch)
    say(x + w / 2, y + level / 2, text, 'white' if strong and kind == 'context' else ink, 'center')


def row(x, y, letters, names, kind='context', strong='', bars=()):
    """Keys, values or both, a column for each name; '_' is a gap.

    strong: the names that stand out; bars: the attention that each got, on top of it.
    """
    for n, name in enumerate(names.split()):
        for below, letter in enumerate(letters if name != '_' else ''):
            text = name if name == '...' else f'${letter}_{name}$'
            box(x + n * pitch, y + 0.54 * below, text, kind, name in strong)
        if bars:
            shape(x + n * pitch, y - 0.05 - bars[n], cell, bars[n], fills[kind][name in strong])


def arrow(x, start, end, color=ink, lw=1.6, head=True, text='', aside=0.0):
    """From the middle of a column to that of another; start and end are (column, y).

    The text stands `aside` of the arrow's middle.
    """
    ends = [(x + column * pitch + cell / 2, y) for column, y in (start, end)]
    style = '-|>,head_length=5,head_width=2.6' if head else '-'
    below_boxes = 2.5  # which hide where it begins and ends
    ax.add_patch(FancyArrowPatch(*ends, arrowstyle=style, color=color, lw=lw, shrinkA=1, shrinkB=1,
                                 zorder=below_boxes))
    say((ends[0][0] + ends[1][0]) / 2 + aside, (start[1] + end[1]) / 2, text, ha='center')


def panel(x, number, subtitle, formulas):
    say(x, 2.4, f'method {number}', size=15, weight='bold')
    say(x, 2.8, subtitle, quiet)
    say(x, 10.55, formulas, size=12, step=0.55)


def draw_steps():
    """The column at the left: what methods 1 to 3 do, step by step."""
    pick = ('Eq. 4: the tokens $j$ with\n$S_{ij} \\geq 1\\,/\\,(MF \\cdot t)$,\n'
            'the first only if $S_{i0} > BF$')
    rank = 'Eq. 5: with its query,\n$s$ = softmax of\n$TS \\cdot q_j \\cdot k_n / \\sqrt{hs}$'
    for y, name, text in ((0.68, 'write', 'a text runs through\nthe plain model once'),
                          (2.4, 'read', 'one head of one layer'),
                          (3.45, 'pick', pick),
                          (5.5, 'search', "with the token's key:\n$K$ smallest $\\Vert k_j - k_n \\Vert^2$"),
                          (7.25, 'rank', rank),
                          (9.15, 'replace', "$v_j$ by $v'_j$ in $S V$")):
        say(0.4, y, name, size=15, weight='bold')
        say(0.4, y + 0.4, text)
    for y, kind in ((10.27, 'context'), (10.85, 'memory')):
        box(0.4, y, '', kind)
        say(0.95, y + tall / 2, kind)


def draw_write():
    """The strip above all: how a memory comes to be."""
    shape(0.2, 0.2, width - 0.4, 1.7, ground, 'none', 0.15, z=0)
    for n, token in enumerate((r'\n', 'a', 'text', 'to', 'keep')):
        box(3.2 + n * 0.75, 0.8, token, strong=False, w=0.69)
    shape(7.7, 0.65, 1.9, 0.8, 'white', ink)
    say(8.65, 1.05, 'frozen GPT-2', ha='center')
    arrow(6.8, (0, 1.05), (1.35, 1.05))
    arrow(9.45, (0, 1.05), (1.35, 1.05))
    row(10.6, 0.53, 'kv', '0')
    row(10.6 + pitch, 0.53, 'kv', '1 2 3 4', 'memory', '1234')
    ax.plot((10.52, 11.08), (1.67, 0.43), color=ink, lw=2, zorder=6)  # strikes out the bookkeeping row
    say(13.3, 0.69, 'keys and values of chosen layers\nare kept: $M$ of each in every head\n'
                    'but not the bookkeeping row')


def draw_pick(x):
    row(x, 4.6, 'k', '0 1 j ... i', strong='j', bars=(0.72, 0.14, 0.56, 0.2, 0.26))
    for start, end, y in ((-0.1, 1.0, 3.7), (1.0, 5.0, 4.2)):  # thresholds
        ax.plot((x + start * pitch, x + end * pitch), (y, y), color=ink, lw=1.4, ls=(0, (3, 2)), zorder=4)
    say(x + cell / 2, 3.5, '$BF$', ha='center')
    say(x + 5.1 * pitch, 4.2, r'$1/(MF \cdot t)$')
    say(x + 6 * pitch + cell, 3.2, "newest row's query", quiet, 'right')
    row(x + 6 * pitch, 3.42, 'q', 'i', strong='i')
    arrow(x, (5.5, 3.67), (3.7, 3.67), text='$S_i$', aside=-0.65)


def draw_replacing(x, number, ranks_own, blends):
    """Methods 1 to 3. ranks_own: the own value is one more candidate; blends: v' keeps a share of it, RF."""
    found = rf"m = \sum_n s_n v_n{' + s_j v_j' * ranks_own}"
    replaced = r"v'_j = (1 - RF)\,m + RF\,v_j" if blends else "v'_j = m"
    ranked = 'ranked too' if ranks_own else 'not ranked'
    panel(x, number, f"{'blend' if blends else 'replace'}, own value {ranked}", f"${found}$\n${replaced}$")
    draw_pick(x)
    row(x, 6.1, 'kv', '1 2 n ... n M', 'memory', 'n')
    for column, lw, text in ((2, 5, '$s_n$'), (4, 3, '')):
        arrow(x, (2, 5.1), (column, 6.08), context)
        arrow(x, (column, 7.12), (2, 8.25), memory, lw, False, text, -0.24)
    if ranks_own:
        row(x + 6.2 * pitch, 6.1, 'kv', 'j', strong='j')
        say(x + 6.2 * pitch + cell, 5.86, 'and own', quiet, 'right')
        arrow(x, (6.2, 7.12), (2, 8.25), context, 2, False, '$s_j$', 0.45)
    box(x + 2 * pitch, 8.2, '$m$', 'memory', share=s_j * ranks_own)
    arrow(x, (2, 8.7), (2, 9.52), text='$1 - RF$' * blends, aside=-0.45)
    if blends:
        row(x + 4 * pitch, 8.2, 'v', 'j', strong='j')
        arrow(x, (4, 8.7), (2.2, 9.52), context, text='$RF$', aside=0.33)
    row(x, 9.55, 'v', '0 1 _ ... i')
    box(x + 2 * pitch, 9.55, "$v'_j$", 'memory', share=s_j * ranks_own * (1 - RF * blends) + RF * blends)


def draw_extended(x):
    """Method 4: one softmax over the context and the stored keys that the row's query found."""
    shape(x - 0.17, 2.05, width - x - 0.03, height - 2.25, ground, 'none', 0.15, z=0)
    panel(x, 4, 'extended attention', '$y_i = \\sum_j S_{ij} v_j + \\sum_n S_{in} v_n$\n'
                                      '$S_{in} \\propto \\exp(TS \\cdot q_i \\cdot k_n / \\sqrt{hs})$')
    say(x, 3.5, 'nothing is picked,\nnothing is replaced', quiet)
    row(x, 4.6, 'k', '0 1 j ... i')
    row(x + 6.2 * pitch, 4.6, 'q', 'i', strong='i')
    say(x + 6.2 * pitch + cell, 4.36, "each row's own query", quiet, 'right')
    say(x, 5.38, r'$K$ largest $q_i \cdot k_n$')
    row(x, 6.1, 'kv', '1 n 3 ... n M', 'memory', 'n')
    for column, to in ((1, 5.2), (4, 6.2)):
        arrow(x, (6.2, 5.1), (column, 6.08), context)
        arrow(x, (column, 7.12), (to, 8.72), memory, 2)
    say(x, 8.72, 'one softmax $S_i$')
    row(x, 9.55, 'v', '0 1 j ... i', bars=(0.5, 0.1, 0.3, 0.15, 0.2))
    row(x + 5.2 * pitch, 9.55, 'v', 'n n', 'memory', 'n', bars=(0.65, 0.4))


if __name__ == '__main__':
    draw_write()
    draw_steps()
    for number, ranks_own, blends in ((1, True, False), (2, False, True), (3, True, True)):
        draw_replacing(3.68 * number - 0.48, number, ranks_own, blends)
    draw_extended(14.24)
    fig.savefig(out)
    Image.open(out).convert('RGB').quantize(128).save(out, optimize=True)  # 80 kB, not 200
