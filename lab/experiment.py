"""
An experiment: the points of its grid, each run once over all its seeds, in this process or as Ray tasks, and kept in a file
of one JSON line a run, from which an interrupted sweep goes on.
"""
import fcntl
import functools
import hashlib
import itertools
import json
import os
import platform
import subprocess
import time
from difflib import get_close_matches

import faiss
import numpy
import torch
import transformers
from tqdm import tqdm

from configurator import fitted
from lab import facts, measures
from load import load_model, read_text

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MEASURES = {'sentiment': measures.sentiment, 'recall': measures.recall, 'facts': facts.facts, 'look_ups': measures.look_ups}
RECORD_VERSIONS = {'recall': 2, 'facts': 2}  # part of a run's id: another where a measure's numbers come to mean something else
WHOLE = ('init_from', 'out_dir', 'device', 'dtype', 'compile', 'threads', 'batch_size', 'held_out_text', 'num_held_out', 'measure')
APART = ('grid', 'controls', 'figure', 'show_texts', 'publish_dir', 'json', 'engine', 'find', 'max_damage',
         'wandb_log', 'wandb_project', 'wandb_run_name')  # settings that no run depends on
UNCOUNTED = {*APART, 'out_dir', 'device', 'compile', 'threads', 'batch_size', 'init_from'}  # the weights count by their fingerprint
TEXTS = ('start', 'memory_text', 'unrelated_text', 'opposite_text', 'held_out_text')
SHORT = {'memory_method': 'method', 'memory_layers': 'layers', 'memory_heads': 'heads', 'memory_k': 'k', 'memory_fraction': 'MF',
         'bookkeeping_fraction': 'BF', 'softmax_scale': 'TS', 'residual_fraction': 'RF', 'memory_select': 'select'}
READING = ('memory', 'unrelated', 'opposite')  # conditions in which a memory is read
OF_A_MEMORY = ('memory_layers', 'memory_heads', 'memory_k', 'memory_method', 'memory_fraction', 'bookkeeping_fraction',
               'softmax_scale', 'residual_fraction', 'memory_select', 'bookkeeping_tokens')
USED_BY = {**dict.fromkeys(OF_A_MEMORY, READING), 'unrelated_text': ('unrelated',),
           'opposite_text': ('opposite', 'steering'), 'steering_layer': ('steering',), 'steering_scale': ('steering',)}


# ---- points ----

def points_of(config):
    """The settings of an evaluate.py -> its points, the controls first: [{'label', 'panel', 'varied', 'settings'}].

    `grid` is a list of dictionaries {setting: values}: of each dictionary all combinations, one panel of the figure. A dictionary's
    'name', a text, stands in its labels for the settings that it gives one value only. Raises ValueError for a setting that does not
    exist, that all runs of an experiment share, or whose value is of another type.
    """
    base = base_of(config)
    points = [{'label': measures.CONDITIONS[how], 'panel': -1, 'varied': {}, 'settings': {**base, 'condition': how}}
              for how in control_conditions(config)]
    for panel, axes in enumerate(config['grid'] or [{}]):
        name, axes = str(axes.get('name', '')), axes_of(axes)
        check_axes(axes, base, config)
        for combination in combinations(axes):
            varied = {key: fitted(key, value, base[key]) for key, value in combination.items()}
            told = {key: value for key, value in varied.items() if not name or len(axes[key]) > 1}
            settings = {**base, **varied}
            label = label_of(told, name) or measures.CONDITIONS.get(settings['condition'], '')
            points.append({'label': label, 'panel': panel, 'varied': told, 'settings': settings})
    for point in points:
        check_point(point['settings'])
    labels = [point['label'] for point in points]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"grid has two points that the table would call {twice[0]!r}: give their dictionaries different names")
    return points


def base_of(config):
    """The settings that a single run can depend on."""
    return {name: value for name, value in config.items() if name not in APART}


def axes_of(axes):
    """A dictionary of the grid without its name: {setting: values}."""
    return {key: values for key, values in axes.items() if key != 'name'}


def combinations(axes):
    """{setting: values} -> {setting: value} for each combination."""
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def control_conditions(config):
    """What every table has beside its points, as far as the settings name a text for it."""
    if not config['controls'] or config['measure'] == 'look_ups':
        return []
    if config['measure'] == 'facts':
        return ['plain', 'prompt', 'unrelated', 'opposite']
    found = ['plain', 'prompt'] + [how for how in ('unrelated', 'opposite') if config[f'{how}_text']]
    steers = config['measure'] == 'sentiment' and config['opposite_text'] and config['steering_scale']
    return found + ['steering'] if steers else found


def check_axes(axes, base, config):
    if not all(isinstance(name, str) and isinstance(values, (list, tuple)) and values for name, values in axes.items()):
        raise ValueError(f"grid holds {axes!r}, expected a dictionary of lists, for example grid=[{{'memory_k': [1, 5]}}]")
    for name in axes:
        if name in WHOLE or name in APART:
            raise ValueError(f"grid varies {name}, which is the same in all runs of an experiment: run evaluate.py once for each")
        if name in ('bookkeeping_tokens', 'substitute') and config['memory_file'] and not config['memory_text']:
            raise ValueError(f"grid varies {name}, but the memory is a file: give its text as memory_text")
        if name not in base:
            close = get_close_matches(name, base, n=1)
            raise ValueError(f"grid varies {name}, which is no setting" + (f": did you mean {close[0]}?" if close else ""))


def check_point(s):
    """Raises ValueError for what would stop a sweep in the middle."""
    if s['measure'] not in MEASURES:
        raise ValueError(f"measure is {s['measure']!r}, expected one of {', '.join(map(repr, MEASURES))}")
    if s['condition'] not in measures.CONDITIONS:
        raise ValueError(f"condition is {s['condition']!r}, expected one of {', '.join(map(repr, measures.CONDITIONS))}")
    if min(s[name] for name in ('num_seeds', 'num_held_out', 'batch_size', 'max_new_tokens', 'num_facts', 'texts_together')) < 1:
        raise ValueError("num_seeds, num_held_out, batch_size, max_new_tokens, num_facts and texts_together must be 1 or more")
    if s['threads'] < 0 or s['distance'] < 0 or not abs(s['steering_scale']) < 1e6:
        raise ValueError(f"threads is {s['threads']}, distance {s['distance']}, steering_scale {s['steering_scale']}: expected 0 or more, "
                         "and a scale within a million")
    if s['condition'] in READING and not s['memory_layers']:
        raise ValueError("memory_layers is empty, so nothing would be read: name the layers that read, for example memory_layers=5")
    if s['memory_text'] and not read_text(s['memory_text']).strip():
        raise ValueError("the text to remember is empty: give memory_text, or FILE:path, with something in it")
    if s['measure'] == 'recall':
        check_answer(s)
    if s['measure'] == 'facts' and (s['condition'] == 'steering' or s['sentence_only'] and s['texts_together'] > 1):
        raise ValueError("facts are not measured under 'steering', and sentence_only goes with texts_together 1 alone")
    if s['measure'] != 'facts' and not s['memory_text'] and not s['memory_file']:
        raise ValueError("no memory to measure: give memory_file or memory_text")
    for how in ('unrelated', 'opposite'):
        needs = s['condition'] == how or how == 'opposite' and s['condition'] == 'steering'
        if needs and s['measure'] != 'facts' and not s[f'{how}_text']:
            raise ValueError(f"condition {s['condition']!r} needs {how}_text: give a text, or FILE:path")


def check_layers(points, sizes):
    """Raises ValueError for a layer or head that the model has not; `sizes` is its GPTConfig."""
    for point in points:
        s, whose = point['settings'], ' (the controls read with the config\'s own settings)' if point['panel'] < 0 else ''
        reads = s['condition'] in READING
        wrong = [('memory_layers', layer, sizes.n_layer) for layer in s['memory_layers'] if reads]
        wrong += [('memory_heads', head, sizes.n_head) for head in s['memory_heads'] if reads]
        wrong += [('steering_layer', s['steering_layer'], sizes.n_layer)] * (s['condition'] == 'steering')
        for name, index, count in wrong:
            if not 0 <= index < count:
                raise ValueError(f"{name} holds {index} for '{point['label']}'{whose}: the model's go from 0 to {count - 1}, set {name}")


def check_answer(s):
    if not s['answer'].strip() or s['answer'] == s['answer'].lstrip() and not read_text(s['start'])[-1:].isspace():
        raise ValueError(f"answer is {s['answer']!r}, expected the right answer as it follows the prompt, a space included: "
                         "--answer=' Vancouver'")
    if s['substitute'] and not s['memory_text']:
        raise ValueError("substitute stands in a text, but the memory is a file: give its text as memory_text")


def label_of(varied, name=''):
    told = ', '.join(f"{SHORT.get(key, key)} {brief(value)}" for key, value in varied.items())
    return ': '.join(part for part in (name, told) if part)


def brief(value):
    """A setting's value as a table shows it: layers (3, 4, 5) as 3-5."""
    if isinstance(value, tuple):
        runs = len(value) > 2 and value == tuple(range(value[0], value[-1] + 1))
        return f'{value[0]}-{value[-1]}' if runs else ','.join(map(str, value)) or 'all'  # () is all
    return f'{value:g}' if isinstance(value, float) else str(value).strip()


# ---- one run ----

def run_id(settings, weights):
    """A hash of what the run's numbers depend on: its settings, the contents of its texts and of its memory file, the weights."""
    counted = {name: value for name, value in settings.items()
               if name not in UNCOUNTED and settings['condition'] in USED_BY.get(name, measures.CONDITIONS)}
    counted |= {name: read_text(counted[name]) for name in TEXTS if name in counted}
    counted['memory_file'] = '' if settings['memory_text'] else hash_of(settings['memory_file'])
    text = json.dumps([RECORD_VERSIONS.get(settings['measure'], 1), weights, counted], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_of(path):
    """Of a file's bytes, or of all files in a folder; '' where there is none."""
    digest = hashlib.sha256()
    files = [path] if os.path.isfile(path) else sorted(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
    for file in files:
        with open(file, 'rb') as f:
            digest.update(f.read())
    return digest.hexdigest() if files else ''


def weights_of(model):
    """What tells a run's model: its weights, and another kind of device, which draws other random numbers."""
    kind = model.transformer.wte.weight.device.type
    return model.fingerprint() + ('' if kind == 'cpu' else f' on {kind}')


@functools.lru_cache(maxsize=1)
def loaded(init_from, out_dir, device, dtype, compile):
    return load_model(init_from, out_dir, device, dtype, compile)


def model_of(settings):
    """The model and tokenizer of an experiment, loaded once a process."""
    return loaded(*(settings[name] for name in ('init_from', 'out_dir', 'device', 'dtype', 'compile')))


def run(settings):
    """Measures one point -> its record. Everything in it but 'time' and tokens_per_second is the same each time."""
    if settings['threads']:
        torch.set_num_threads(settings['threads'])
    model, tokenizer = model_of(settings)
    started = time.time()
    found = measures.rounded(MEASURES[settings['measure']](model, tokenizer, settings))
    return {'id': run_id(settings, weights_of(model)), **found, 'seeds': measures.point_seeds(settings), 'settings': settings,
            'fingerprint': model.fingerprint(), 'commit': commit(), 'versions': versions(),
            'time': {'started': time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(started)), 'seconds': round(time.time() - started, 2),
                     'threads': torch.get_num_threads(), 'device': str(model.transformer.wte.weight.device)}}


@functools.cache
def commit():
    """Of this repository, with -dirty where files differ from it; '' outside of one."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ''


def versions():
    return {'python': platform.python_version(), 'torch': torch.__version__, 'faiss': faiss.__version__, 'numpy': numpy.__version__,
            'transformers': transformers.__version__}


# ---- the file of results ----

class Results:
    """results.jsonl: a line a run, appended; `records` {id: record}. One process at a time may have it open."""

    def __init__(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.path, self.file = path, open(path, 'a+b')
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is being written by another evaluate.py: wait for it, or give another out_dir") from None
        self.records = self.read()

    def read(self):
        """What is there. A half-written last line, of a run that was interrupted while writing, is cut off."""
        self.file.seek(0)
        lines = self.file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b'\n'):
            self.file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        records = {}
        for n, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                records[record['id']] = record
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{self.path}, line {n} is damaged: remove that line, its run is then done again") from None
        return records

    def add(self, record):
        """Appends a run, on the disk when this returns. Raises OSError, and then leaves at most half a line."""
        self.file.write(json.dumps(record, separators=(',', ':')).encode() + b'\n')
        self.file.flush()
        os.fsync(self.file.fileno())
        self.records[record['id']] = record


# ---- engines ----

def run_all(points, config, results, done=lambda record: None, title='runs'):
    """Runs the points that `results` lacks, and gives each point its 'record'; done(record) is called after each new one."""
    weights = weights_of(model_of(config)[0])
    ids = [run_id(point['settings'], weights) for point in points]
    missing = {id: point['settings'] for id, point in zip(ids, points) if id not in results.records}
    records = ENGINES[config['engine']](list(missing.values()), config)
    for record in tqdm(records, title, len(set(ids)), initial=len(set(ids)) - len(missing), disable=not missing):
        results.add(record)
        done(record)
    for id, point in zip(ids, points):
        point['record'] = results.records[id]


def run_in_process(all_settings, config):
    yield from map(run, all_settings)


def run_on_ray(all_settings, config):
    """As tasks of a Ray cluster: of this machine, or the one that RAY_ADDRESS names, which gets a copy of this repository's files.

    A task whose worker is lost runs again. Raises what a task raised.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("engine is 'ray', which is not installed: pip install -r requirements-ray.txt") from None
    if not all_settings:
        return
    if 'RAY_ADDRESS' in os.environ and config['init_from'] == 'resume':
        raise ValueError("a cluster gets no checkpoints of ours: export the model to a folder and name that as init_from")
    threads = config['threads'] or torch.get_num_threads()
    here = ROOT
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    elsewhere = {'working_dir': here, 'excludes': ['.git', '.venv', 'out*', 'wandb', 'tests', '*.bin', '*.pt']}
    environment = elsewhere if 'RAY_ADDRESS' in os.environ else {'env_vars': {'PYTHONPATH': here}}
    ray.init(address=os.environ.get('RAY_ADDRESS'), runtime_env=environment, log_to_driver=False, logging_level='ERROR')
    try:
        if ray.cluster_resources().get('CPU', 0) < threads:
            raise ValueError(f"a run takes {threads} threads, the cluster has {ray.cluster_resources().get('CPU', 0):.0f} CPUs: "
                             "give fewer --threads")
        task = ray.remote(run).options(num_cpus=threads, num_gpus=int(model_of(config)[0].transformer.wte.weight.is_cuda), max_retries=3)
        waiting = [task.remote({**settings, 'threads': threads}) for settings in all_settings]
        while waiting:
            ready, waiting = ray.wait(waiting)
            yield {**ray.get(ready[0]), 'commit': commit()}
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray gave up on a run ({type(error).__name__}): start again, what is done stays done") from None
    finally:
        ray.shutdown()


ENGINES = {'process': run_in_process, 'ray': run_on_ray}
