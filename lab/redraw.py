"""
The figure of an experiment, from its published numbers alone; and all of a folder's, again.
"""
import glob
import json
import os

import numpy as np

from core.atomic import write_files
from lab import finder
from lab.drawing import png
from lab.figures import FIGURES
from lab.maps import cells_read, head_map, head_maps, layers_that_read, maps


def picture_of(numbers):
    """numbers: what an experiment's JSON holds -> the bytes of its PNG; none where it wants no figure.

    Raises KeyError for numbers that were published before their figure was drawn from them.
    """
    if 'alone' in numbers:
        return png(head_map(np.array(numbers['alone']), numbers['heads']))
    if 'halves' in numbers:
        return png(head_maps({half['name']: (np.array(half['alone']), half['heads'])
                              for half in numbers['halves']}))
    if 'fresh' in numbers:
        return png(layers_that_read(numbers))
    config = numbers['config']
    rows = [{**row, 'varied': settings_of(row['varied']), 'fixed': settings_of(row.get('fixed', {}))}
            for row in numbers['rows']]
    if config['find']:
        effect, damage = (np.array(numbers['maps'][name], float) for name in ('effect', 'damage'))
        chosen = {**config, **next(row['varied'] for row in rows if row.get('chosen'))}
        reads = cells_read(chosen, effect.shape[1] - 1)
        return png(maps(effect, damage, finder.GOALS[config['find']][0], reads))
    measure, points = config['measure'], [{'settings': {**config, **row['fixed'], **row['varied']}}
                                          for row in rows]
    kind = next(iter(FIGURES[measure])) if config['figure'] == 'auto' else config['figure']
    return png(FIGURES[measure][kind](points, rows, measure)) if kind else b''


def settings_of(varied):
    """JSON has lists where settings are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in varied.items()}


def draw_all(folder):
    """Draws each PNG of a folder, and of those in it, again from the JSON of its name. -> (paths drawn, paths
    left as they are, whose numbers are too old). Raises FileNotFoundError where there are none."""
    drawn, left = [], []
    for path in sorted(glob.glob(os.path.join(folder, '**', '*.json'), recursive=True)):
        picture = f'{path[:-5]}.png'
        if not os.path.exists(picture):
            continue
        with open(path, encoding='utf-8') as f:
            numbers = json.load(f)
        try:
            content = picture_of(numbers)
        except KeyError:
            left.append(picture)
            continue
        write_files(os.path.dirname(path), {os.path.basename(picture): content})
        drawn.append(picture)
    if not drawn and not left:
        raise FileNotFoundError(f"{folder} holds no figure beside a JSON of its name: "
                                "give a folder of results")
    return drawn, left
