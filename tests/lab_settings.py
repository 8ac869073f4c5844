"""Settings of small experiments, and what is read back of them."""
import json
import os

from conftest import ROOT

import configurator

PRAISE = 'FILE:' + os.path.join(ROOT, 'memories', 'tinyworld_cats_praise.txt')
BLAME = 'FILE:' + os.path.join(ROOT, 'memories', 'tinyworld_cats_blame.txt')
SENTIMENT = ['--start=\nCats are', f'--memory_text={PRAISE}', '--memory_layers=0,2', '--memory_method=3',
             '--memory_fraction=5', '--softmax_scale=1', '--max_new_tokens=6', '--num_seeds=3',
             '--num_held_out=3', '--memory_select=each']
RECALL = ['--measure=recall', '--start=\nThe mayor of Taldun is', '--answer= Ida',
          '--memory_text=Taldun has a mayor called Ida Branet.', '--memory_layers=0,2', '--memory_method=4',
          '--softmax_scale=1', '--max_new_tokens=3', '--num_seeds=3', '--num_held_out=3']


def default_settings():
    """evaluate.py's, read off its block without its slow imports."""
    block = configurator.help_text({'__file__': os.path.join(ROOT, 'evaluate.py')})
    settings = {}
    exec(block, settings)  # noqa: S102, our own file
    return {name: value for name, value in settings.items() if name != '__builtins__'}


def records_of(folder):
    with open(os.path.join(folder, 'results.jsonl')) as f:
        return [json.loads(line) for line in f]


def numbers_of(records):
    """What must be the same each time."""
    def kept(record):
        work = {name: value for name, value in record.get('work', {}).items() if name != 'tokens_per_second'}
        return {**{name: record[name] for name in ('samples', 'numbers', 'held_out', 'seeds')},
                'texts': record.get('texts'), 'work': work}
    return {record['id']: kept(record) for record in records}
