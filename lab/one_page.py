"""
The trace page of an experiment that is one run of one seed: its text, written once more, and what that drew.
"""
import torch

from lab.conditions import READING, prompt_of, start_of, under
from lab.measures import condition_of, drawing_of, new_tokens_of, original_text, point_seeds
from lab.writing import texts_of, write
from page.trace import trace_of

SHOWN = 'sentiment', 'recall'  # measures that score a text which is written


def point_shown(points):
    """-> the settings of the one point beside the controls. Raises ValueError where there are several, or
    none of whose text there could be a page."""
    varied = [point['settings'] for point in points if point['panel'] >= 0]
    s, counts = varied[0], (len(varied), len(point_seeds(varied[0])))
    if counts != (1, 1) or s['cases']:
        several = f"{len(s['cases'])} cases" if s['cases'] else '{} points and {} seeds'.format(*counts)
        raise ValueError(f"page is of one text, but there are {several}: give a grid of one point, no cases, "
                         "and --num_seeds=1")
    if s['measure'] not in SHOWN or s['condition'] not in READING:
        raise ValueError(f"page is of a text that is written with a memory, but measure is {s['measure']!r}, "
                         f"condition {s['condition']!r}: take one of {', '.join(SHOWN)}, and 'memory'")
    return s


def trace_of_point(model, tokenizer, s):
    """-> its trace, see page/README.md; {} where the memory holds nothing."""
    condition, drawing = condition_of(s, original_text(model, tokenizer, s)), drawing_of(s, tokenizer)
    n, start = new_tokens_of(s, tokenizer), start_of(model, tokenizer, condition)
    plain = texts_of(tokenizer, write(model, start, n, drawing)[0], drawing)[0]
    with under(model, tokenizer, condition):
        way = model.recaller or next(iter(model.readers.values()))
        if not len(way.memory):
            return {}
        idx = prompt_of(model, tokenizer, condition)
        rows, _ = write(model, idx, n, drawing)
        recalled = model.recalled[0] if model.recalled else ()
        row = torch.cat((idx, idx.new_tensor(rows[:1])), dim=1)
        traced = trace_of(model, tokenizer, row, idx.size(1), None, recalled, n)
    return {**traced, 'seed': drawing.seeds[0], 'plain': plain}
