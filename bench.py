"""
Measures speed: writing with and without a memory beside Hugging Face and the machine's limits.

$ python bench.py
$ python bench.py --models=assets/tinyworld --parts=write,curves

Contenders take turns, round by round, so that a busy machine slows all of them; times are medians over the
rounds, with quartiles, and ratios are medians of the ratios within a round. Prints tables and as its last
line one JSON object; publish_dir gets that, a file a model, and figures.
"""
import json
import os

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
models = 'random,assets/tinyworld'  # 'random': GPT-2 124M, random weights; hub names, folders, 'smollm2'
parts = 'build,load,library,search,curves,write'  # what to measure; also 'peers', 'dtypes', 'start'
workloads = [{'rows': 1, 'prompt': 16, 'new': 50}, {'rows': 1, 'prompt': 256, 'new': 20},
             {'rows': 1, 'prompt': 900, 'new': 50}, {'rows': 100, 'prompt': 16, 'new': 100},
             {'rows': 20, 'prompt': 16, 'new': 100, 'only': 'last'},  # only: whose name it matches
             {'rows': 100, 'prompt': 256, 'new': 5}, {'rows': 100, 'prompt': 900, 'new': 5}]
stored_tokens = (141, 10000, 100000)  # M
contexts = (16, 64, 128, 256, 512, 750, 1000)  # of the curve over context, at the first of stored_tokens
texts = (1, 10, 100, 1000, 10000)  # peers: in one memory, each of about 65 tokens
index_heads = ((2, 4), (8, 0), (15, 6), (18, 6))  # peers: that vote, SmolLM2's
curve_tokens = (100, 1000, 10000, 100000)  # of the curve over memory, at a context of 256
memory_layers = (8, 9, 10)  # that read; where the model has fewer layers, its last three but one
memory_k = 5
memory_fraction = 1.0
bookkeeping_fraction = 0.5
repeats = 5  # rounds
peaks = 'Hugging Face,plain,each'  # load: whose peak memory is measured, a process each; '' is none
floor_size = 0  # of the square matrices whose product is the limit; 0 is 2048, on a GPU 8192
device = 'auto'  # 'auto', 'cpu', 'cuda'
threads = 0  # of torch, 0 is its own choice
publish_dir = ''  # a folder for the numbers and the figures of each model
seed = 1337
# -----------------------------------------------------------------------------
config = configure(globals())

import torch  # noqa: E402, settings are checked before the slow imports
import transformers  # noqa: E402

from core.atomic import write_files  # noqa: E402
from lab import (  # noqa: E402
    speed_curves,
    speed_dtypes,
    speed_figures,
    speed_files,
    speed_library,
    speed_peers,
    speed_search,
    speed_setup,
    speed_start,
    speed_writing,
)
from lab.drawing import png  # noqa: E402

MEASURES = {'build': speed_files.measure_building, 'load': speed_files.measure_loading,
            'library': speed_library.measure_library, 'peers': speed_peers.measure_peers,
            'search': speed_search.measure_search, 'dtypes': speed_dtypes.measure_dtypes,
            'start': speed_start.measure_start,
            'curves': speed_curves.measure_curves, 'write': speed_writing.measure_writing}
FIGURES = {'write': speed_figures.writing, 'curves': speed_figures.curves, 'peers': speed_figures.peers}


# ---- settings that cannot run ----

def check_settings():
    for name, given, known in (('parts', parts, MEASURES), ('peaks', peaks or 'plain', speed_files.PEAKS)):
        unknown = set(given.split(',')) - set(known)
        if unknown:
            wrong = ', '.join(sorted(unknown))
            raise ValueError(f"{name} names {wrong}, expected some of {','.join(known)}")
    if not (stored_tokens and contexts and curve_tokens and texts) or \
            min(*stored_tokens, *contexts, *curve_tokens, *texts, memory_k, repeats) < 1:
        raise ValueError("repeats, memory_k, stored_tokens, contexts, curve_tokens and texts must be 1 or "
                         "more, none of them empty")
    if not workloads:
        raise ValueError("workloads is [], expected some like {'rows': 1, 'prompt': 16, 'new': 50}")
    for work in workloads:
        check_workload(work)
    if not memory_layers or min(memory_layers) < 0 or threads < 0 or floor_size < 0:
        raise ValueError(f"memory_layers is {memory_layers}, threads is {threads}, floor_size is "
                         f"{floor_size}: name at least one layer, and nothing below 0")


def check_workload(work):
    numbers = [work.get(name) for name in ('rows', 'prompt', 'new')]
    if set(work) - {'rows', 'prompt', 'new', 'only'} or not all(type(n) is int and n >= 1 for n in numbers):
        raise ValueError(f"the workload {work} is not like {{'rows': 1, 'prompt': 16, 'new': 50}}, "
                         "with numbers from 1 on")


def fitting(block_size):
    """The workloads and contexts that fit a context of this size. Raises ValueError where none does."""
    works = [work for work in workloads if work['prompt'] + work['new'] <= block_size]
    lengths = [T for T in contexts if T <= block_size]
    if not works or not lengths:
        raise ValueError(f"no workload or no context fits the model's {block_size} tokens: shorten them")
    return works, lengths


# ---- a model ----

def measure(name, setup):
    """-> all that was measured of a model."""
    with speed_setup.folder_of_model(name, seed) as folder:
        c, works, lengths = describe(name, folder, setup)
        result = {'model': name, 'n_layer': c.n_layer, 'n_head': c.n_head, 'n_embd': c.n_embd,
                  'block_size': c.block_size, 'layers': speed_setup.reading_layers(setup, c.n_layer),
                  'floors': speed_writing.measure_floors(folder, setup)}
        for part in parts.split(','):
            fits = {'write': [works], 'curves': [lengths]}.get(part, [])
            result[part] = MEASURES[part](folder, setup, *fits)
            if publish_dir:  # what is measured is kept, whatever comes
                publish(result, part, setup)
        return result


def describe(name, folder, setup):
    """Prints what the model is and leaves out -> its GPTConfig, the workloads and contexts that fit."""
    model = speed_setup.our_model(folder, setup)
    c, (works, lengths) = model.config, fitting(model.config.block_size)
    print(f"\n== {name}: {c.n_layer} layers, {c.n_head} heads, n_embd {c.n_embd}, "
          f"{model.get_num_params() / 1e6:.1f} M parameters; layers "
          f"{speed_setup.reading_layers(setup, c.n_layer)} read, k {memory_k}, MF {memory_fraction}, BF "
          f"{bookkeeping_fraction}")
    if (len(works), len(lengths)) < (len(workloads), len(contexts)):
        print(f"  left out, longer than its {c.block_size} tokens: {len(workloads) - len(works)} workloads, "
              f"{len(contexts) - len(lengths)} contexts")
    return c, works, lengths


def publish(result, part, setup):
    """A model's numbers so far, and the figure of the part that was measured last."""
    name = os.path.basename(result['model'].rstrip('/'))
    files = {f'{name}.json': json.dumps(report(setup, [result]), indent=1)}
    if part in FIGURES:
        files[f'{name}_{part}.png'] = png(FIGURES[part](result))
    write_files(publish_dir, files)


def report(setup, results):
    settings = {name: value for name, value in config.items() if name != 'publish_dir'}
    return {'machine': speed_setup.machine(setup), 'config': settings, 'models': results}


def main():
    check_settings()
    if threads:
        torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    setup = speed_setup.Setup.of(config)
    print(', '.join(f"{name} {value}" for name, value in speed_setup.machine(setup).items()))
    print(json.dumps(report(setup, [measure(name, setup) for name in models.split(',')])))


if __name__ == '__main__':
    with one_line_errors():
        main()
