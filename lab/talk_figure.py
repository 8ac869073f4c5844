"""
The figure of a long talk: what is still known, and how long the first token takes as the talk grows.
"""
from lab.drawing import BLUE, GREY, ORANGE, SERIES, logarithmic, plt

COLORS = {'memory': ORANGE, 'plain': GREY, 'whole': BLUE, 'prompt': SERIES[2], 'alone': SERIES[3]}


def talk(points, rows, measure):
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), gridspec_kw={'width_ratios': (1, 1.3)})
    for y, row in enumerate(rows):
        rate, color = row['right'], COLORS[row['condition']]
        left.barh(y, rate['value'], 0.7, color=color, alpha=0.8)
        left.plot(rate['interval'], [y, y], color='black', lw=1)
        left.text(rate['interval'][1] + 0.02, y, f"{rate['count']}/{rate['n']}", va='center', fontsize=8)
        samples = row['samples']
        right.plot(samples['turn'], samples['seconds'], 'o', ms=3.5, color=color, label=row['label'])
    left.set_yticks(range(len(rows)), [row['label'] for row in rows])
    left.invert_yaxis()
    left.set_xlim(0, 1.02)
    left.set_title('share of questions answered right')
    logarithmic(right, 'y')
    right.set_xlabel('turns so far')
    right.set_title('seconds of processor time to the first token')
    return fig
