"""
The figures of bench.py, from the numbers of one model; each returns a matplotlib figure.
"""
from lab.drawing import BLUE, GREY, INK, ORANGE, SERIES, logarithmic, plt

FAR_APART = 15  # times: from there on bars are drawn on a logarithmic scale


def writing(model):
    """Bars of ms a row-token, a panel for each workload, with the machine's limits."""
    works = model['write']
    heights = [len(work['table']) for work in works]
    fig, axes = plt.subplots(len(works), 1, figsize=(7, sum(0.7 + 0.17 * height for height in heights)),
                             squeeze=False, height_ratios=[2 + height for height in heights],
                             layout='constrained')
    for ax, work in zip(axes[:, 0], works):
        bars(ax, work['table'])
        limits(ax, model['floors'], 'read_ms' if work['rows'] == 1 else 'arithmetic_ms')
        rows = f"{work['rows']} row{'s' * (work['rows'] > 1)}"
        ax.set_title(f"{rows}, prompt of {work['prompt']} tokens, {work['new']} new", loc='left')
    axes[0, 0].legend(loc='lower right', fontsize=7)
    return fig


def bars(ax, table):
    middle, low, high = ([row['ms'][i] for row in table] for i in range(3))
    spread = [[m - q for m, q in zip(middle, low)], [q - m for m, q in zip(middle, high)]]
    names = [row['name'] for row in table]
    ax.barh(names, middle, color=list(map(color_of, names)), xerr=spread, error_kw={'lw': 1, 'ecolor': INK})
    if max(middle) > FAR_APART * min(middle):
        logarithmic(ax, 'x')
    ax.invert_yaxis()
    ax.set_xlabel('ms a row-token, median and quartiles')
    ax.tick_params(axis='y', labelsize=7)


def color_of(name):
    if 'plain' in name:
        return BLUE
    return GREY if name.startswith(('Hugging Face', 'llama.cpp', 'everything again')) else ORANGE


def limits(ax, floors, key):
    for dtype, style in (('float32', '--'), ('bfloat16', ':')):
        ax.axvline(floors[dtype][key], color=INK, ls=style, lw=1, label=f"machine's limit, {dtype}")


def curves(model):
    """Time and look-ups a token, against the length of the context and the size of the memory."""
    fig, axes = plt.subplots(2, 2, figsize=(8, 5), sharex='col', layout='constrained')
    context, memory = model['curves']['context'], model['curves']['memory']
    curve(*axes[:, 0], context, 'context')
    curve(*axes[:, 1], memory, 'stored_tokens')
    axes[0, 0].set_title(f"{context[0]['stored_tokens']} stored tokens", loc='left')
    axes[0, 1].set_title(f"{memory[0]['context']} tokens of context", loc='left')
    axes[1, 0].set_xlabel('context, tokens')
    axes[1, 1].set_xlabel('stored tokens')
    logarithmic(axes[0, 1], 'x')
    for ax in axes[1]:
        ax.axhline(model['n_head'], color=GREY, ls=':', lw=1, label='n_head')
    axes[0, 0].set_ylabel('ms a token, one row')
    axes[1, 0].set_ylabel('look-ups a token, a layer')
    for ax in axes[:, 0]:
        ax.legend(fontsize=7)
    return fig


def curve(top, bottom, rows, key):
    """A line a contender: its time with quartiles above, its look-ups below."""
    for color, contender in zip((INK, *SERIES), rows[0]['ms']):
        some = [row for row in rows if contender in row['ms']]  # a long context has no room for a text
        x = [row[key] for row in some]
        middle, low, high = ([row['ms'][contender][i] for row in some] for i in range(3))
        top.plot(x, middle, 'o-', ms=3, color=color, label=contender)
        top.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
        if contender != 'plain':
            bottom.plot(x, [row['searches'][contender] for row in some], 'o-', ms=3, color=color)
    times = [ms[0] for row in rows for ms in row['ms'].values()]
    if max(times) > FAR_APART * min(times):
        logarithmic(top, 'y')
    else:
        top.set_ylim(0)
    bottom.set_ylim(0)


def peers(model):
    """What a question costs by each way to answer it, against the number of texts."""
    wanted = {'tokens': 'tokens through the model\nbefore the first is written',
              'first_ms': 'ms to the first token', 'ms': 'ms for each token after it',
              'bytes_a_token': 'bytes kept a token of the texts'}
    fig, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout='constrained')
    names = list(dict.fromkeys(row['name'] for row in model['peers']))
    for ax, (key, title) in zip(axes, wanted.items()):
        for color, name in zip((GREY, BLUE, *SERIES[:1], *SERIES[2:]), names):
            rows = [row for row in model['peers'] if row['name'] == name]
            values = [row[key][0] if isinstance(row[key], list) else row[key] for row in rows]
            ax.plot([row['texts'] for row in rows], values, 'o-', ms=3, color=color, label=name)
        logarithmic(ax, 'x')
        ax.set_yscale('symlog' if key == 'bytes_a_token' else 'log')
        if key == 'bytes_a_token':
            ax.set_ylim(0)
        ax.set_xlabel('texts')
        ax.set_title(title, loc='left')
    fig.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, fontsize=7)
    return fig
