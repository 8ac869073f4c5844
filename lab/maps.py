"""
Maps: what each head of each layer does alone, which layers must read. Of the searches.
"""
import numpy as np

from lab.drawing import BLUE, INK, ORANGE, plt

SCORES = {'sentence_compound': 'the mean compound per sentence', 'probability': 'p(answer)'}


def cells_read(settings, n_head):
    """The cells of the map that a setting reads: [(layer, column)], the last column all heads."""
    columns = settings['memory_heads'] or (n_head,)
    return [(layer, column) for layer in settings['memory_layers'] for column in columns]


def maps(effect, damage, name, chosen=()):
    """The finder's: what each head does alone, layer x head, all heads in the last column; and the damage.

    chosen: cells [(layer, column)] of the setting that was chosen, which are outlined.
    """
    fig, axes = plt.subplots(1, 2, figsize=(3 + 0.75 * effect.shape[1], 1.4 + 0.36 * len(effect)))
    map_of(axes[0], effect, f'change of {SCORES[name]}', 'PuOr_r', '{:+.2f}')
    map_of(axes[1], damage, 'held-out perplexity, % above plain', 'Oranges', '{:+.0f}')
    for ax in axes:
        for y, x in chosen:
            outlined(ax, y, x)
    axes[0].set_ylabel('layer that reads')
    if chosen:
        fig.supxlabel('outlined: what the chosen setting reads', fontsize=8)
    fig.tight_layout()
    return fig


def outlined(ax, y, x):
    """A cell of a map."""
    ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=INK, lw=2, clip_on=False))


def head_map(alone, chosen):
    """Index heads: the share (n_layer, n_head) that each finds alone; chosen [(layer, head)] are outlined."""
    return head_maps({'': (alone, chosen)})


def head_maps(found):
    """A map beside the other: {its title: (alone, chosen)}."""
    size = next(alone.shape for alone, _ in found.values())
    width = 1.6 + 0.32 * size[1]
    fig, axes = plt.subplots(1, len(found), figsize=(width + (width - 1) * (len(found) - 1),
                                                     1.2 + 0.2 * size[0]), sharey=True, squeeze=False)
    for ax, (title, (alone, chosen)) in zip(axes[0], found.items()):
        drawn = ax.imshow(alone, cmap='Oranges', vmin=0, vmax=1, aspect='auto')
        for layer, head in chosen:
            outlined(ax, layer, head)
        ax.set_xticks(range(size[1]))
        ax.set_yticks(range(0, size[0], max(1, size[0] // 15)))
        ax.set_xlabel('query head')
        ax.set_title(title)
    axes[0, 0].set_ylabel('layer')
    fig.colorbar(drawn, ax=list(axes[0]), label='share of questions whose text\nthe head finds alone '
                                                '(outlined: chosen)')
    return fig


def layers_that_read(numbers):
    """Reading layers: each step of the search a column; which read, and what answers are worth with these.

    numbers: see reading_layers.Found.
    """
    steps, fresh = numbers['steps'], numbers['fresh']
    fig, axes = plt.subplots(3, 1, figsize=(2.5 + 0.45 * len(steps), 6), sharex=True, height_ratios=(2, 2, 3))
    for ax, name, title in zip(axes, ('log_p', 'right'), ("answers' log p, nats", 'answers written, share')):
        for some, color, label in ((steps, ORANGE, 'facts that chose'), (fresh, BLUE, 'fresh facts')):
            ax.plot([one[name] for one in some], 'o-', ms=4, lw=1.4, color=color, label=label)
        ax.set_ylabel(title)
    axes[0].legend(fontsize=8)
    reads = [[layer in step['layers'] for step in steps] for layer in range(numbers['n_layer'])]
    axes[2].imshow(reads, cmap='Oranges', vmin=0, vmax=2, aspect='auto', origin='lower')
    axes[2].set_ylabel('layers that read')
    axes[2].set_xticks(range(len(steps)), [len(step['layers']) for step in steps])
    axes[2].set_xlabel(f"how many of {numbers['n_layer']} layers read (marked: chosen)")
    at = [step['layers'] for step in steps].index(numbers['layers'])
    for ax in axes:
        ax.axvspan(at - 0.5, at + 0.5, fill=False, ec=INK, lw=1.2)
    fig.align_ylabels()
    fig.tight_layout()
    return fig


def map_of(ax, values, title, cmap, form):
    most = np.nanmax(np.abs(values)) or 1
    ax.imshow(values, cmap=cmap, vmin=-most if cmap == 'PuOr_r' else 0, vmax=most, aspect='auto')
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = 'white' if abs(value) > 0.6 * most else INK
            ax.text(x, y, form.format(value), ha='center', va='center', fontsize=7, color=color)
    ax.set_xticks(range(values.shape[1]), [*range(values.shape[1] - 1), 'all'])
    ax.set_yticks(range(len(values)))
    ax.set_xlabel('head that reads')
    ax.set_title(title)
