"""
The runs of an experiment: each point measured once over all its seeds, in this process or as Ray tasks, and
kept in a file of one JSON line a run, from which an interrupted sweep goes on.
"""
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import platform
import subprocess
import time

import faiss
import numpy
import torch
import transformers
from tqdm import tqdm

from core.texts import read_text
from lab.conditions import CONDITIONS, OF_A_TALK, OF_MANY_TEXTS, OTHER_TEXTS, READING
from lab.grid import APART, OF_A_MEMORY
from lab.measures import measured, point_seeds
from load import loaded

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD_VERSIONS = {'recall': 2, 'facts': 2, 'library': 2}  # of an id: counted up where numbers change meaning
OF_THE_MODEL = ('init_from', 'out_dir', 'device', 'dtype', 'compile')
UNCOUNTED = {*APART, *OF_THE_MODEL, 'threads', 'batch_size'} - {'dtype'}  # weights have a fingerprint
TEXTS = ('start', 'system', 'memory_text', 'unrelated_text', 'neutral_text', 'opposite_text', 'held_out_text')
USED_BY = {**dict.fromkeys(OF_A_MEMORY, (*READING, 'right')),
           **{f'{other}_text': (other, *['steering'] * (other == 'opposite')) for other in OTHER_TEXTS},
           'steering_layer': ('steering',), 'steering_scale': ('steering',)}


# ---- one run ----

def run_id(settings, weights):
    """A hash of what the run's numbers depend on: settings, what is in texts and a memory file, weights."""
    known = {*CONDITIONS, *OF_MANY_TEXTS, *OF_A_TALK}
    counted = {name: value for name, value in settings.items()
               if name not in UNCOUNTED and (settings['condition'] in USED_BY.get(name, known)
                                             or settings['measure'] == 'talk')}  # played with the memory
    # runs of the measures that were there before these settings are called what they were
    counted = {name: value for name, value in counted.items() if name not in unused(settings)}
    if not counted['chat']:  # runs of bare text are called what they were before there were chats
        del counted['chat'], counted['system']
    counted |= {name: read_text(counted[name]) for name in TEXTS if name in counted}
    if counted.get('squad_file'):
        counted['squad_file'] = hash_of(counted['squad_file']) or counted['squad_file']  # a dataset's name
    counted['memory_file'] = '' if settings['memory_text'] else hash_of(settings['memory_file'])
    text = json.dumps([RECORD_VERSIONS.get(settings['measure'], 1), weights, counted], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unused(settings):
    """Settings that play no part in this run."""
    of_recall = ('index_heads', 'memory_index', *(name for name in settings if name.startswith('recall_')))
    return {*(of_recall if settings['memory_method'] != 5 else ()), *([] if settings['cases'] else ['cases']),
            *(('context_turns',) if settings['measure'] != 'talk' else ()),
            *(() if settings['recall_neighbours'] else ('recall_neighbours',)),
            *(name for name in ('pass_keys', 'everyday') if not settings[name]),
            *(('squad_file', 'tinyworld') if settings['measure'] != 'library' else ())}


def hash_of(path):
    """Of a file's bytes, or of all files in a folder; '' where there is none."""
    digest, files = hashlib.sha256(), [path]
    if not os.path.isfile(path):
        files = sorted(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
    for file in files:
        with open(file, 'rb') as f:
            digest.update(f.read())
    return digest.hexdigest() if files else ''


def weights_of(model):
    """What tells a run's model: its weights, and a kind of device, which draws random numbers of its own."""
    kind = model.transformer.wte.weight.device.type
    return model.fingerprint() + ('' if kind == 'cpu' else f' on {kind}')


def model_of(settings):
    """The model and tokenizer of an experiment, loaded once a process."""
    return loaded(*(settings[name] for name in OF_THE_MODEL))


def run(settings):
    """Measures one point -> its record without an id, the same each time but for times."""
    if settings['threads']:
        torch.set_num_threads(settings['threads'])
    model, tokenizer = model_of(settings)
    started = time.time()
    found = rounded(measured(model, tokenizer, settings))
    return {**found, 'seeds': point_seeds(settings), 'settings': settings,
            'fingerprint': model.fingerprint(), 'commit': commit(), 'versions': versions(),
            'time': {'started': time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(started)),
                     'seconds': round(time.time() - started, 2), 'threads': torch.get_num_threads(),
                     'device': str(model.transformer.wte.weight.device)}}


def rounded(value):
    """To 6 digits: what is kept of a number."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


@functools.cache
def commit():
    """Of this repository, with -dirty where files differ from it; '' outside of one."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ''


def versions():
    return {'python': platform.python_version(), 'torch': torch.__version__, 'faiss': faiss.__version__,
            'numpy': numpy.__version__, 'transformers': transformers.__version__}


# ---- the file of results ----

class Results:
    """results.jsonl, a line a run, appended; `records` {id: record}. One process at a time has it open."""

    def __init__(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.path, self.file = path, open(path, 'a+b')
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is being written by another evaluate.py: "
                             "wait for it, or give another out_dir") from None
        self.records = self.read()

    def read(self):
        """What is there. A half-written last line, whose writing was interrupted, is cut off."""
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
                raise ValueError(f"{self.path}, line {n} is damaged: "
                                 "remove that line, its run is then done again") from None
        return records

    def add(self, record):
        """Appends a run, on the disk when this returns. Raises OSError, then leaves at most half a line."""
        self.file.write(json.dumps(record, separators=(',', ':')).encode() + b'\n')
        self.file.flush()
        os.fsync(self.file.fileno())
        self.records[record['id']] = record


# ---- all runs ----

def run_all(points, config, results, done=lambda record: None, title='runs'):
    """Runs the points that `results` lacks, calls done(record) for each, and gives all their 'record'."""
    model = model_of(config)[0]
    weights = weights_of(model)
    ids = [run_id(point['settings'], weights) for point in points]
    missing = {id: point['settings'] for id, point in zip(ids, points) if id not in results.records}
    found, total = ENGINES[config['engine']](missing, config), len(set(ids))
    for id, record in tqdm(found, title, total, initial=total - len(missing), disable=not missing):
        check_weights(record, model)
        record = {'id': id, **record}
        results.add(record)
        done(record)
    for id, point in zip(ids, points):
        point['record'] = results.records[id]


def check_weights(record, model):
    """Raises ValueError where a worker measured another model than the one that the run's id tells of."""
    there, here = record['fingerprint'], model.fingerprint()
    if there != here:
        raise ValueError(f"a run's model has other weights ({there[:8]}) than the one here ({here[:8]}): "
                         "give an init_from that is the same on all machines")


def run_in_process(missing, config):
    """missing: {id: settings} -> (id, record) of each, as they are done."""
    for id, settings in missing.items():
        yield id, run(settings)


def run_on_ray(missing, config):
    """As run_in_process, as tasks of a Ray cluster. A task whose worker is lost runs again. Raises what a
    task raised."""
    if missing:
        with ray_running(config) as ray:
            yield from ray_tasks(ray, missing, config)


@contextlib.contextmanager
def ray_running(config):
    """Yields ray, with a cluster: of this machine, or the one that RAY_ADDRESS names.

    It gets a copy of this repository's files. Raises what a task raised, or OSError.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("engine is 'ray', which is not installed: "
                         "pip install -r requirements-ray.txt") from None
    start_ray(ray, config)
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray gave up on a run ({type(error).__name__}): "
                      "start again, what is done stays done") from None
    finally:
        ray.shutdown()


def start_ray(ray, config):
    address = os.environ.get('RAY_ADDRESS')
    if address and config['init_from'] == 'resume':
        raise ValueError("init_from is 'resume', but a cluster gets no checkpoints of ours: "
                         "export the model to a folder, and name that")
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    left_out = ['.git', '.venv', 'out*', 'wandb', 'tests', '*.bin', '*.pt']
    environment = {'env_vars': {'PYTHONPATH': ROOT}}
    if address:
        environment = {'working_dir': ROOT, 'excludes': left_out}
    ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level='ERROR')


def check_cluster(ray, threads, gpus):
    """Raises ValueError where no machine can ever run a task."""
    there = ray.cluster_resources()
    for kind, needed, cure in (('CPU', threads, 'give fewer --threads'), ('GPU', gpus, 'give --device=cpu')):
        if there.get(kind, 0) < needed:  # Ray would wait for ever
            held = there.get(kind, 0)
            raise ValueError(f"a run takes {needed} {kind}s, the cluster has {held:.0f}: {cure}")


def ray_tasks(ray, missing, config):
    """A worker only measures: which run it was, and on which kind of device, the ids here have said."""
    device = model_of(config)[0].transformer.wte.weight.device.type
    threads, gpus = config['threads'] or torch.get_num_threads(), int(device == 'cuda')
    check_cluster(ray, threads, gpus)
    task = ray.remote(run).options(num_cpus=threads, num_gpus=gpus, max_retries=3)
    waiting = {task.remote({**settings, 'threads': threads, 'device': device}): id
               for id, settings in missing.items()}
    while waiting:
        ready, _ = ray.wait(list(waiting))
        id = waiting.pop(ready[0])
        yield id, {**ray.get(ready[0]), 'settings': missing[id], 'commit': commit()}


ENGINES = {'process': run_in_process, 'ray': run_on_ray}
