"""
What all figures share: colours, fonts, a legend, and how a figure becomes a file.
"""
import io

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

INK, GREY, BLUE, ORANGE = '#1f2933', '#9aa5b1', '#2b5c8a', '#dc8a1c'
SERIES = [ORANGE, BLUE, '#5b8c5a', '#a23b52', '#6c5b9e', '#3b3b3b', '#c0a030', '#4aa3a3']
plt.rcParams.update({'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False,
                     'axes.edgecolor': GREY, 'axes.titlesize': 10, 'legend.frameon': False,
                     **dict.fromkeys(('text.color', 'axes.labelcolor', 'xtick.color', 'ytick.color'), INK)})


def png(fig):
    """A figure -> the bytes of a small PNG."""
    from PIL import Image
    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, dpi=110, bbox_inches='tight')
    plt.close(fig)
    Image.open(raw).convert('RGB').quantize(64, dither=Image.Dither.NONE).save(small, 'PNG', optimize=True)
    return small.getvalue()


def logarithmic(ax, axis):
    """A logarithmic scale of the axis 'x' or 'y', with plain numbers at it: 0.3, 1, 100,000."""
    getattr(ax, f'set_{axis}scale')('log')
    low, high = getattr(ax, f'get_{axis}lim')()
    own = getattr(ax, f'{axis}axis')
    own.set_major_locator(ticker.LogLocator(subs=(1, 3) if high < 100 * low else (1,)))
    own.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,.10g}'))
    own.set_minor_formatter(ticker.NullFormatter())


def legend_below(fig, axes):
    """One for all of the axes, each label once, below whatever stands under them."""
    both = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels())]
    handles = {label: handle for handle, label in both if label}
    fig.align_ylabels()
    lowest = fig.transFigure.inverted().transform(fig.get_tightbbox().min * fig.dpi)[1]
    fig.legend(handles.values(), handles.keys(), loc='upper center', bbox_to_anchor=(0.5, lowest - 0.01),
               ncols=min(2 if fig.get_figwidth() < 6 else 4, max(1, len(handles))), fontsize=8)
