"""
Measures speed: writing with and without a memory beside Hugging Face and beside the machine's limits, and how it scales.

$ python bench.py
$ python bench.py --models=assets/tinyworld --parts=write,curves

Contenders take turns, round by round, so that a busy machine slows all of them; times are medians over the rounds, with quartiles, and
ratios are medians of the ratios within a round. Prints tables and as its last line one JSON object; publish_dir gets that, a file a
model, and figures.
"""
import json
import os
import platform
import statistics
import tempfile
import time

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
models = 'random,assets/tinyworld'  # 'random' is a GPT-2 of 124M with random weights, else a hub name or a folder
parts = 'build,load,search,curves,write'  # what to measure
workloads = [{'rows': 1, 'prompt': 16, 'new': 50}, {'rows': 1, 'prompt': 256, 'new': 20}, {'rows': 1, 'prompt': 900, 'new': 50},
             {'rows': 100, 'prompt': 16, 'new': 100}, {'rows': 20, 'prompt': 16, 'new': 100, 'only': 'last'},
             {'rows': 100, 'prompt': 256, 'new': 5}, {'rows': 100, 'prompt': 900, 'new': 5}]  # only: contenders whose name has it
stored_tokens = (141, 10000, 100000)  # M
contexts = (16, 64, 128, 256, 512, 750, 1000)  # of the curve over context, at the first of stored_tokens
curve_tokens = (100, 1000, 10000, 100000)  # of the curve over memory, at a context of 256
memory_layers = (8, 9, 10)  # that read; where the model has fewer layers, its last three but one
memory_k = 5
memory_fraction = 1.0
bookkeeping_fraction = 0.5
repeats = 5  # rounds
device = 'auto'  # 'auto', 'cpu', 'cuda'
threads = 0  # of torch, 0 is its own choice
publish_dir = ''  # a folder for the numbers and the figures of each model
seed = 1337
# -----------------------------------------------------------------------------
config = configure(globals())

import contextlib  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402
import transformers  # noqa: E402
from tqdm import tqdm  # noqa: E402

from load import pick_device  # noqa: E402
from memory import PersistentMemory, describe  # noqa: E402
from model import GPT, Cache, sample  # noqa: E402

TEMPERATURE, TOP_K = 0.8, 200
EACH, LATE = 'each, method 3', 'last, method 2, one layer'
AGAIN_LATE = f'everything again, {LATE}'
MAIN = EACH, 'last, method 3', LATE, 'method 4'


# ---- models and memories ----

@contextlib.contextmanager
def folder_of_model(name):
    """A folder or hub name; for 'random' a folder that lasts as long as the block."""
    if name != 'random':
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
        yield folder


def ours(folder, dtype):
    model = GPT.from_pretrained(folder).to(where(), getattr(torch, dtype))
    model.freeze()
    return model


def where():
    return pick_device(device)


def reading_layers(n_layer):
    return memory_layers if max(memory_layers) < n_layer else tuple(range(max(0, n_layer - 4), n_layer - 1)) or (0,)


def random_memory(model, M, layers):
    """M rows of random numbers: an exact search takes its time whatever they are."""
    memory = PersistentMemory(describe(model), layers)
    g = torch.Generator().manual_seed(seed)
    memory._parts = {part: [torch.randn(memory.n_head, M, memory.head_size, generator=g)] for part in memory._parts}
    memory._add_rows(torch.zeros(M, dtype=torch.int64), '', '')
    return memory


# ---- time ----

def seconds(function):
    """What one call takes; on a GPU, until its work is done."""
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def take_turns(contenders, label, *warm):
    """{name: function that returns its time} -> {name: [times]}; the contenders take turns, after a round that does not count.

    warm: what the functions are given in that round, to be quick.
    """
    times = {name: [] for name in contenders}
    for function in contenders.values():
        function(*warm)
    for _ in tqdm(range(repeats), label, leave=False):
        for name, function in contenders.items():
            times[name].append(function())
    return times


def spread(times, scale=1.0):
    """-> median and quartiles of some times, scaled."""
    from lab.stats import quartiles
    found = quartiles(times)
    return [scale * found[name] for name in ('median', 'q1', 'q3')]


def ratio(times, name, base):
    """How many times as long as `base` does `name` take, or None."""
    return statistics.median(a / b for a, b in zip(times[name], times[base])) if base in times else None


# ---- floors ----

def floors(folder):
    """The machine's limits, measured: reading the weights that a token needs once, and the arithmetic that a row needs."""
    model = GPT.from_pretrained(folder)
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and 'wpe' not in name)  # each, the tied one once
    numbers, n = torch.randn(matrices, device=where()), 2048 if where() == 'cpu' else 8192
    square = torch.randn(n, n, device=where())
    half = square.bfloat16()
    times = take_turns({'read': lambda: seconds(numbers.sum), 'float32': lambda: seconds(lambda: square @ square),
                        'bfloat16': lambda: seconds(lambda: half @ half)}, 'floors')
    bandwidth, limits = numbers.numel() * 4 / statistics.median(times['read']), {}
    for dtype in ('float32', 'bfloat16'):
        rate, size = 2 * n**3 / statistics.median(times[dtype]), matrices * getattr(torch, dtype).itemsize
        limits[dtype] = {'bandwidth_gb_s': bandwidth / 1e9, 'weights_mb': size / 1e6, 'read_ms': 1000 * size / bandwidth,
                         'matmul_gflop_s': rate / 1e9, 'arithmetic_ms': 2000 * matrices / rate}
        print("  floor {}: one row {read_ms:.2f} ms a token ({weights_mb:.0f} MB at {bandwidth_gb_s:.1f} GB/s), many rows "
              "{arithmetic_ms:.2f} ms a row-token (at {matmul_gflop_s:.0f} GFLOP/s)".format(dtype, **limits[dtype]), flush=True)
    return limits


# ---- writing ----

def attach_settings(n_layer):
    """{name: what attach_memory is given beside the memory}."""
    common = {'layers': reading_layers(n_layer), 'k': memory_k, 'memory_fraction': memory_fraction,
              'bookkeeping_fraction': bookkeeping_fraction, 'softmax_scale': 1.0}
    named = {f'{select}, method {method}': {**common, 'method': method, 'select': select}
             for select in ('each', 'last') for method in (3, 1, 2)}
    return {**named, LATE: {**common, 'method': 2, 'select': 'last', 'layers': common['layers'][1:2] or (0,)},
            'method 4': {**common, 'method': 4}}


def writers(folder, work):
    """Of a workload's contenders: {name: function -> seconds a row-token}, {name: function -> {layer: searches a row-token}}."""
    rows, T, new = work['rows'], work['prompt'], work['new']
    searches, found = {}, {}
    idx = torch.randint(0, 256, (1, T), generator=torch.Generator().manual_seed(seed)).to(where())
    exact, half = ours(folder, 'float32'), ours(folder, 'bfloat16')
    settings = attach_settings(exact.config.n_layer)
    memories = {M: random_memory(exact, M, reading_layers(exact.config.n_layer)) for M in stored_tokens}

    def write(name, model, M=0, how=None):
        def run(n):
            model.detach_memory()
            if how:
                model.attach_memory(memories[M], **how)
            model.generate(idx.expand(rows, -1), n, TEMPERATURE, TOP_K, list(range(rows)))
        found[name] = lambda n=new: seconds(lambda: run(min(n, new))) / (rows * min(n, new))
        searches[name] = lambda: {layer: n / (rows * new) for layer, n in model.searches.items()}

    many, first, small, only = rows > 1, work == workloads[0], stored_tokens[0], work.get('only', '')
    if not (many and T > 16):  # without a shared prompt a round would take minutes; 20 tokens a row are enough
        found['Hugging Face'] = hugging_face(folder, idx.expand(rows, -1), min(new, 20) if many else new)
    for name, how in {'everything again': None, AGAIN_LATE: settings[LATE]}.items():
        found[name] = again(exact, idx, new, memories[small], how)
    write('plain', exact)
    write('plain, bfloat16', half)
    for name, how in settings.items():
        if first or name in (EACH, LATE, 'method 4') and not many or name == EACH or only and name == LATE:
            write(f'{name}, {small}', exact, small, how)
    for M in stored_tokens[1:2] if many else stored_tokens[1:]:
        for name in MAIN if first else [EACH] if not (many and T <= 16) else []:
            write(f'{name}, {M}', exact, M, settings[name])
    write(f'{EACH}, {small}, bfloat16', half, small, settings[EACH])
    return {name: function for name, function in found.items() if only in name}, searches


def hugging_face(folder, idx, new):
    hf = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).to(idx.device).eval()
    settings = {'do_sample': True, 'temperature': TEMPERATURE, 'top_k': TOP_K, 'pad_token_id': 0, 'attention_mask': torch.ones_like(idx)}

    def run(n):
        with torch.no_grad():
            hf.generate(idx.contiguous(), max_new_tokens=n, min_new_tokens=n, **settings)
    return lambda n=new: seconds(lambda: run(min(n, new))) / (idx.size(0) * min(n, new))


def again(model, idx, new, memory, how):
    """The original's way of working: the whole context anew for each token, one row at a time. Timed at five lengths, first to last.

    With our weights and our draw, so that what is compared is the way of working alone.
    """
    whole = torch.cat((idx, idx.flip(1).repeat(1, new // idx.size(1) + 1)), dim=1)
    lengths = torch.linspace(idx.size(1), idx.size(1) + new - 1, 5).long().tolist()

    def run(lengths):
        model.detach_memory()
        if how:
            model.attach_memory(memory, **how)
        for T in lengths:
            sample(model(whole[:, :T])[0][:, -1], TEMPERATURE, TOP_K, [torch.Generator(idx.device).manual_seed(seed)])
    return lambda n=5: seconds(lambda: torch.no_grad()(run)(lengths[:n])) / n


def measure_writing(folder):
    """-> for each workload, what each contender took."""
    results = []
    for work in fitting(ours(folder, 'float32').config.block_size)[0]:
        label = f"{work['rows']} row{'s' * (work['rows'] > 1)}, prompt {work['prompt']}, {work['new']} new tokens"
        functions, searches = writers(folder, work)
        looked_up = {}  # after its own run, a model knows what it searched
        times = take_turns({name: counted(function, name, searches, looked_up) for name, function in functions.items()}, label, 2)
        table = [{'name': name, 'ms': spread(t, 1000), 'of_plain': ratio(times, name, 'plain'),
                  'of_hugging_face': ratio(times, name, 'Hugging Face'), 'of_again': ratio(times, name, 'everything again'),
                  'of_again_last': ratio(times, name, AGAIN_LATE),
                  'searches': max(looked_up.get(name, {}).values(), default=0)} for name, t in times.items()]
        results.append({**work, 'table': table})
        print(f"\n{label}: ms a row-token [quartiles]; times as fast as Hugging Face, as everything again without a memory, as everything "
              "again with 'last'; time over plain; searches a row-token in the busiest layer")
        for row in table:
            print(f"  {row['name']:44}{row['ms'][0]:9.2f} [{row['ms'][1]:.2f} {row['ms'][2]:.2f}]".ljust(76)
                  + ''.join(f"{1 / row[of]:8.2f}" if row[of] else ' ' * 8 for of in ('of_hugging_face', 'of_again', 'of_again_last'))
                  + (f"{row['of_plain']:8.2f}" if row['of_plain'] else ' ' * 8) + f"{row['searches']:9.2f}", flush=True)
    return results


def counted(function, name, searches, looked_up):
    def run(*warm):
        taken = function(*warm)
        if name in searches:
            looked_up[name] = searches[name]()
        return taken
    return run


# ---- curves ----

def steps(model, memory, how, idx, n):
    """A function that writes one token more after idx, and says how long it took; `searched` counts its look-ups."""
    model.detach_memory()
    if memory is not None:
        model.attach_memory(memory, **how)
    readers, cache = model.readers, Cache(idx.size(1) + n)
    generators = [torch.Generator(idx.device).manual_seed(seed)]
    searched = []

    def step(token):
        model.readers = readers
        model.start_count()
        with torch.no_grad():
            logits = model.lm_head(model.hidden(token, cache, newest=1)[:, -1])
            sample(logits, TEMPERATURE, TOP_K, generators)
        searched.append(max(model.searches.values(), default=0))
    step(idx)
    return (lambda: seconds(lambda: step(idx[:, :1]))), searched


def curve(model, points):
    """points: [(context, M)] -> one row of times a token and searches for each, the contenders taking turns."""
    n, rows = steps_of_a_curve(model), []
    settings = {name: attach_settings(model.config.n_layer)[name] for name in (EACH, LATE, 'method 4')}
    for T, M in tqdm(points, 'curve', leave=False):
        memory = random_memory(model, M, reading_layers(model.config.n_layer))
        idx = torch.randint(0, 256, (1, T), generator=torch.Generator().manual_seed(seed)).to(where())
        walkers = {'plain': steps(model, None, None, idx, n + 1)}
        walkers |= {name: steps(model, memory, how, idx, n + 1) for name, how in settings.items()}
        times = {name: [] for name in walkers}
        for _ in range(n):
            for name, (walk, _) in walkers.items():
                times[name].append(walk())
        rows.append({'context': T, 'stored_tokens': M, 'ms': {name: spread(t, 1000) for name, t in times.items()},
                     'of_plain': {name: ratio(times, name, 'plain') for name in times},
                     'searches': {name: statistics.fmean(searched[1:]) for name, (_, searched) in walkers.items()}})
    return rows


def steps_of_a_curve(model):
    return min(4 * repeats, model.config.block_size // 4)


def measure_curves(folder):
    model = ours(folder, 'float32')
    size = model.config.block_size - steps_of_a_curve(model) - 1
    curves = {'context': curve(model, [(min(T, size), stored_tokens[0]) for T in fitting(model.config.block_size)[1]]),
              'memory': curve(model, [(min(256, size // 2), M) for M in curve_tokens])}
    for name, rows in curves.items():
        print(f"\none row, by {name}: ms a token, searches a token in the busiest layer")
        for row in rows:
            print(f"  context {row['context']:5}, {row['stored_tokens']:7} stored: " + ', '.join(
                f"{contender} {ms[0]:.2f} ({row['searches'][contender]:.1f})" for contender, ms in row['ms'].items()), flush=True)
    return curves


# ---- building and loading ----

def measure_building(folder):
    """Tokens a second of a text of a whole context, kept for some layers, beside plain forward passes over it."""
    model = ours(folder, 'float32')
    T, n_layer = model.config.block_size, model.config.n_layer
    ids = torch.randint(0, 256, (T,), generator=torch.Generator().manual_seed(seed)).tolist()
    idx = torch.tensor([ids], device=where())
    hf = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).to(where()).eval()
    times = take_turns({
        'plain forward': lambda: seconds(lambda: torch.no_grad()(model)(idx)),
        'Hugging Face forward': lambda: seconds(lambda: torch.no_grad()(hf)(idx, logits_to_keep=1)),
        'three layers': lambda: seconds(lambda: PersistentMemory.from_tokens(model, ids, reading_layers(n_layer))),
        'all layers': lambda: seconds(lambda: PersistentMemory.from_tokens(model, ids, range(n_layer)))}, 'building')
    table = {name: {'tokens_per_second': T / statistics.median(t), 'of_plain': ratio(times, 'plain forward', name)}
             for name, t in times.items()}
    print(f"\nbuilding a memory of a text of {T} tokens: tokens/s (over the plain forward pass)")
    for name, row in table.items():
        print(f"  {name:24}{row['tokens_per_second']:10.0f}{row['of_plain']:8.2f}")
    return table


def measure_loading(folder):
    """Milliseconds to load a file, and the peak memory of a process that writes 20 tokens."""
    model = ours(folder, 'float32')
    table, n_layer = [], model.config.n_layer
    with tempfile.TemporaryDirectory() as files:
        for M, held in ((90, tuple(range(n_layer))), *((M, reading_layers(n_layer)) for M in stored_tokens)):
            path = os.path.join(files, f'{M}.safetensors')
            random_memory(model, M, held).save(path)
            times = take_turns({'all': lambda path=path: seconds(lambda: PersistentMemory.load(path, model)), 'one': lambda path=path,
                                held=held: seconds(lambda: PersistentMemory.load(path, model, held[:1]))}, 'loading')
            table.append({'stored_tokens': M, 'layers': len(held), 'mb': os.path.getsize(path) / 1e6,
                          'ms': spread(times['all'], 1000), 'one_layer_ms': spread(times['one'], 1000)})
        peaks = {}
        for name in ('Hugging Face', 'plain', *(f'each, {M}' for M in stored_tokens)):
            path = os.path.join(files, f"{name.split()[-1]}.safetensors") if 'each' in name else ''
            peaks[name] = peak_of_its_own(folder, path, name == 'Hugging Face')
    print("\nloading: stored tokens, layers, MB, ms [quartiles], ms for one layer of it")
    for row in table:
        print(f"  {row['stored_tokens']:8}{row['layers']:4}{row['mb']:10.1f}{row['ms'][0]:9.2f} [{row['ms'][1]:.2f} {row['ms'][2]:.2f}]"
              f"{row['one_layer_ms'][0]:9.2f}")
    print("peak memory of a process that writes 20 tokens, MB: " + ', '.join(f"{name} {mb:.0f}" for name, mb in peaks.items()), flush=True)
    return {'table': table, 'peak_mb': peaks}


def peak_of_its_own(*arguments):
    """`peak` in a process of its own: one knows its highest only."""
    here = os.path.dirname(os.path.abspath(__file__))
    run = subprocess.run([sys.executable, '-c', f'import bench; print(bench.peak{arguments})', *sys.argv[1:]], text=True,
                         capture_output=True, env={**os.environ, 'PYTHONPATH': here})
    if run.returncode != 0:
        raise OSError(f"the process that measures its memory ended early ({(run.stderr.splitlines() or ['killed'])[-1]}): free some memory")
    return float(run.stdout.split()[-1])


def peak(folder, path, is_hugging_face):
    """Peak memory in MB, after writing 20 tokens: what this process had resident, or on a GPU what torch had there."""
    idx = torch.ones(1, 16, dtype=torch.int64, device=where())
    if is_hugging_face:
        hugging_face(folder, idx, 20)()
    else:
        model = ours(folder, 'float32')
        if path:
            settings = attach_settings(model.config.n_layer)[EACH]
            model.attach_memory(PersistentMemory.load(path, model, settings['layers']), **settings)
        model.generate(idx, 20, TEMPERATURE, TOP_K, [seed])
    if idx.is_cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    with contextlib.suppress(OSError), open('/proc/self/status') as f:  # a child's ru_maxrss begins with its parent's
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == 'Darwin' else 1024)


# ---- search ----

def measure_search(folder):
    """One layer's searches of one step: each of some rows looks up one token in each head; FAISS, and one product for all heads."""
    model, table = ours(folder, 'float32'), []
    print("\nsearch, one layer, one look-up a head and row: stored tokens, rows, ms with FAISS, ms with one stacked product")
    for M in stored_tokens:
        memory = random_memory(model, M, (0,))
        for rows in sorted({work['rows'] for work in workloads}):
            row = {'stored_tokens': M, 'rows': rows, **{name: spread(t, 1000) for name, t in search_times(memory, rows).items()}}
            table.append(row)
            print(f"  {M:8}{rows:5}{row['faiss'][0]:10.3f}{row['stacked'][0]:10.3f}", flush=True)
    return table


def search_times(memory, rows):
    counts = torch.full((memory.n_head,), rows)
    queries = torch.randn(rows * memory.n_head, memory.head_size, generator=torch.Generator().manual_seed(seed))
    there = counts.to(where()), queries.to(where())
    return take_turns({'faiss': lambda: seconds(lambda: memory._search_faiss(0, counts, queries, memory_k, 'l2')),
                       'stacked': lambda: seconds(lambda: memory._search_stacked(0, *there, memory_k, 'l2'))}, 'search')


# ---- all of it ----

def publish(model):
    """A model's numbers and figures."""
    from core.atomic import whole_files
    from lab import speed_figures
    from lab.figures import png
    with whole_files(publish_dir) as beside:
        path = os.path.join(beside, os.path.basename(model['model'].rstrip('/')))
        with open(f'{path}.json', 'w') as f:
            json.dump({'machine': machine(), 'config': config, 'models': [model]}, f, indent=1)
        for part, draw in (('write', speed_figures.writing), ('curves', speed_figures.curves)):
            if part in model:
                with open(f'{path}_{part}.png', 'wb') as f:
                    f.write(png(draw(model)))


MEASURES = {'build': measure_building, 'load': measure_loading, 'search': measure_search, 'curves': measure_curves,
            'write': measure_writing}


def check_settings():
    unknown = set(parts.split(',')) - set(MEASURES)
    if unknown:
        raise ValueError(f"parts names {', '.join(sorted(unknown))}, expected some of {','.join(MEASURES)}")
    if repeats < 1 or min(*stored_tokens, *contexts, *curve_tokens, memory_k) < 1 or not (stored_tokens and contexts and curve_tokens):
        raise ValueError("repeats, memory_k, stored_tokens, contexts and curve_tokens must be 1 or more, and none of them empty")
    for work in workloads:
        numbers = [work.get(name) for name in ('rows', 'prompt', 'new')]
        if set(work) - {'rows', 'prompt', 'new', 'only'} or not all(type(n) is int and n >= 1 for n in numbers):
            raise ValueError(f"the workload {work} is not like {{'rows': 1, 'prompt': 16, 'new': 50}}, with numbers from 1 on")
    if not memory_layers or min(memory_layers) < 0 or threads < 0:
        raise ValueError(f"memory_layers is {memory_layers}, threads is {threads}: name at least one layer, and nothing below 0")


def fitting(block_size):
    """The workloads and contexts that a model of this context can take. Raises ValueError where there is none."""
    works = [work for work in workloads if work['prompt'] + work['new'] <= block_size]
    lengths = [T for T in contexts if T <= block_size]
    if not works or not lengths:
        raise ValueError(f"no workload or no context fits the model's {block_size} tokens: name shorter ones")
    return works, lengths


def machine():
    """What the times depend on."""
    from lab.experiment import versions
    name = torch.cuda.get_device_name() if where() != 'cpu' else cpu_name()
    return {'device': name, 'cores': os.cpu_count(), 'torch_threads': torch.get_num_threads(), 'faiss_threads': 1,
            'system': platform.system(), **versions()}


def cpu_name():
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as f:
        for line in f:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def measure(name):
    with folder_of_model(name) as folder:
        model = ours(folder, 'float32')
        c = model.config
        works, lengths = fitting(c.block_size)
        print(f"\n== {name}: {c.n_layer} layers, {c.n_head} heads, n_embd {c.n_embd}, {model.get_num_params() / 1e6:.1f} M parameters; "
              f"layers {reading_layers(c.n_layer)} read, k {memory_k}, MF {memory_fraction}, BF {bookkeeping_fraction}")
        if (len(works), len(lengths)) < (len(workloads), len(contexts)):
            print(f"  left out, longer than its {c.block_size} tokens: {len(workloads) - len(works)} workloads, "
                  f"{len(contexts) - len(lengths)} contexts")
        del model
        result = {'model': name, 'n_layer': c.n_layer, 'n_head': c.n_head, 'n_embd': c.n_embd, 'block_size': c.block_size,
                  'layers': reading_layers(c.n_layer), 'floors': floors(folder)}
        for part in parts.split(','):
            result[part] = MEASURES[part](folder)
            if publish_dir:  # what is measured is kept, whatever comes
                publish(result)
        return result


def main():
    check_settings()
    if threads:
        torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(', '.join(f"{name} {value}" for name, value in machine().items()))
    print(json.dumps({'machine': machine(), 'config': config, 'models': [measure(name) for name in models.split(',')]}))


if __name__ == '__main__':
    with one_line_errors():
        main()
