"""
Weights in and out: Hugging Face's format, by hub name or folder, GGUF files, and nanoGPT's checkpoints.

What is read is checked name by name, shape by shape and number by number: an error says what is wrong with
the file, and nothing is left out, filled up or replaced.
"""
import dataclasses
import functools
import os
import re
import reprlib

import torch
from torch.overrides import TorchFunctionMode

from core import families, gguf_file
from core.atomic import whole_files
from core.checks import all_finite
from core.config import GPTConfig
from core.lazily import Lazily, OnFile, check_unchanged, checked_against, float32_on_file, made_of, stamp
from core.model_files import check_file, folder_of_model, parts_of, read_json

ACTIVATIONS = {'gelu_new': 'gelu_new', 'gelu_pytorch_tanh': 'gelu_new', 'gelu': 'gelu'}
MASKS = '.attn.bias', '.attn.masked_bias'  # constants that old versions kept beside the weights
SIZES = 'block_size', 'vocab_size', 'n_layer', 'n_head', 'n_embd'
# what a config.json may say that would change the computation, and what is computed here
COMPUTED = {'scale_attn_weights': True, 'scale_attn_by_inverse_layer_idx': False, 'auto_map': None,
            'tie_word_embeddings': True, 'add_cross_attention': False, 'quantization_config': None,
            'pruned_heads': None}


class Unfilled(TorchFunctionMode):
    """Within it nothing is drawn: a module made for weights that are loaded has no need of random ones, which
    took a third of the time to load it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ('normal_', 'uniform_', 'kaiming_uniform_'):
            return args[0] if args else kwargs['tensor']
        return func(*args, **(kwargs or {}))


# ---- Hugging Face's format ----

def load(source):
    """A hub name, folder, .gguf file or 'smollm2' -> (fields of GPTConfig, {name in GPT: OnFile in float32}).

    Tensors are read when they are asked for. Raises ValueError, OSError kinds.
    """
    if gguf_file.is_named(source):
        return gguf_file.load(gguf_file.path_of(source))
    folder = folder_of_model(source)
    given = read_json(os.path.join(folder, 'config.json'))
    is_llama = given.get('model_type') in families.FAMILIES
    sizes = (families.fields_of_hugging_face if is_llama else config_from_hugging_face)(given, source)
    tensors = {}
    for name in parts_of(folder):
        tensors |= tensors_of_file(os.path.join(folder, name))
    if is_llama:
        return sizes, families.state_of_hugging_face(Lazily(tensors), sizes, source)
    called = {'block_size': 'n_positions'}
    return sizes, checked(Lazily(turned(own_names(tensors, source))), {**sizes, 'bias': True}, source,
                          'config.json', called)


def turned(makers):
    """Those that Hugging Face's GPT-2 keeps transposed."""
    def turn(make):
        w = make()
        return made_of(w.shape[::-1], lambda: w[:].T.contiguous()) if len(w.shape) == 2 else w
    return {name: functools.partial(turn, make) if is_conv1d(name) else make
            for name, make in makers.items()}


def tensors_of_file(path):
    """-> {name: function that gives the tensor} of a .safetensors or pickled file, whose code is never run.

    Raises ValueError, OSError.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path} is missing, one of the parts that the index beside it names: fetch "
                                "it too")
    if not path.endswith('.safetensors'):
        return makers_of(read_pickle(path), path)
    check_file(path)
    before, file = stamp(path), of_safetensors(path, opened, path, 'pread')
    return {name: functools.partial(on_file, file, path, before, name) for name in file.keys()}


def opened(path, backend):
    from safetensors import safe_open
    return safe_open(path, 'pt', backend=backend)


def on_file(file, path, before, name):
    """Whole it is fastest read; some rows mapped, anew each time: what was read would stay in memory."""
    shape = tuple(of_safetensors(path, file.get_slice, name).get_shape())

    def read(rows):
        if not shape or rows == slice(0, *shape[:1]):
            return file.get_tensor(name)
        check_unchanged(path, before)
        return opened(path, 'mmap').get_slice(name)[rows]
    reading = functools.partial(of_safetensors, path, read)
    return OnFile(shape, reading) if shape else reading(None)  # without axes it has no rows


def of_safetensors(path, read, *arguments):
    from safetensors import SafetensorError
    try:
        return read(*arguments)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut ({first_line(error)}): fetch or save it again") from None


def makers_of(tensors, source):
    """{name: tensor} -> {name: function that gives it}. Raises ValueError for what is no tensor."""
    if not isinstance(tensors, dict):
        raise ValueError(f"{source} holds a {type(tensors).__name__}, expected tensors by their names: save "
                         "the model itself with save_pretrained")
    odd = next((name for name, w in tensors.items() if not isinstance(w, torch.Tensor)), None)
    if odd is not None:
        raise ValueError(f"the weights of {source!r} hold {odd!r}, which is no tensor: it is a trainer's "
                         "checkpoint, save the model itself with save_pretrained")
    return {name: functools.partial(tensors.get, name) for name in tensors}


def read_pickle(path):
    """What torch.save wrote, without running any code of the file. Raises ValueError, OSError kinds."""
    check_file(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        asked = re.search(r'GLOBAL ([\w.]+)', str(error))
        if asked:
            raise ValueError(f"{path} would run code when it is opened (it asks for {asked[1]}) and was not "
                             "opened: save its tensors alone, as model.safetensors") from None
        raise ValueError(f"{path} is damaged or no file of torch.save ({first_line(error)}): "
                         "fetch or save it again") from None


def own_names(tensors, source):
    """{Hugging Face's name: ...} -> the same by GPT's names, without masks.

    Raises ValueError for a foreign prefix.
    """
    embedding = next((name for name in sorted(tensors) if name.endswith('wte.weight')), None)
    if embedding is None:
        raise ValueError(f"the weights of {source!r} are not GPT-2's: wte.weight is missing, the first of "
                         f"{len(tensors)} is {min(tensors, default='none')}")
    prefix = embedding.removesuffix('wte.weight').removesuffix('transformer.')
    if prefix:  # of Lightning, torch.compile, ...
        raise ValueError(f"the names of the weights of {source!r} begin with {prefix!r}, expected "
                         "'transformer.wte.weight': save them again without it, "
                         f"{{name.removeprefix({prefix!r}): w for name, w in weights.items()}}")
    # saved without a head, as OpenAI's own are
    missing = 'transformer.' if embedding == 'wte.weight' else ''
    return {name if name == 'lm_head.weight' else missing + name: w for name, w in tensors.items()
            if not name.endswith(MASKS)}


def config_from_hugging_face(given, source):
    """config.json -> fields of GPTConfig. Raises ValueError for a variant that model.py does not compute."""
    from transformers import GPT2Config
    from transformers.utils import logging
    logging.set_verbosity_error()  # what matters of its warnings is checked here, and told in one line
    names = given.get('architectures') or ['none']
    # the oldest name only their class
    kind = given.get('model_type', 'gpt2' if str(names[0]).startswith('GPT2') else 'nameless')
    if kind != 'gpt2':
        raise ValueError(f"{source!r} is a {kind!r} model, expected 'gpt2' or one of "
                         f"{', '.join(map(repr, families.FAMILIES))}")
    try:
        hf = GPT2Config(**given)  # knows the defaults of what is not given, and other names of the fields
    except Exception as error:  # its checks raise several types
        raise ValueError(f"the config.json of {source!r} is not GPT-2's: "
                         f"{' '.join(str(error).split())}") from None
    for name, value in COMPUTED.items():
        if bool(getattr(hf, name, None)) != bool(value):
            raise ValueError(f"{source!r} has {name}={getattr(hf, name)}, only {value} is computed here")
    if hf.activation_function not in ACTIVATIONS:
        raise ValueError(f"{source!r} has activation {hf.activation_function!r}, "
                         f"expected one of {', '.join(ACTIVATIONS)}")
    return {'block_size': hf.n_positions, 'vocab_size': hf.vocab_size, 'n_layer': hf.n_layer,
            'n_head': hf.n_head, 'n_embd': hf.n_embd, 'n_inner': hf.n_inner or 0,
            'mlp': ACTIVATIONS[hf.activation_function], 'layer_norm_epsilon': hf.layer_norm_epsilon,
            'name': os.path.basename(os.path.abspath(os.path.expanduser(source)))}


def config_to_hugging_face(c):
    from transformers import GPT2Config
    return GPT2Config(vocab_size=c.vocab_size, n_positions=c.block_size, n_layer=c.n_layer, n_head=c.n_head,
                      n_embd=c.n_embd, n_inner=c.n_inner or None, activation_function=c.mlp,
                      layer_norm_epsilon=c.layer_norm_epsilon, resid_pdrop=c.dropout, embd_pdrop=c.dropout,
                      attn_pdrop=c.dropout, bos_token_id=None, eos_token_id=None,
                      architectures=['GPT2LMHeadModel'])


def is_conv1d(name):
    """True for the weights that Hugging Face's GPT-2 keeps transposed, as (in, out)."""
    return name.endswith(('c_attn.weight', 'c_proj.weight', 'c_fc.weight'))


def save(config, weights, folder, dtype):
    """Writes a GPT's config and state dict as config.json and model.safetensors, each replaced whole.

    Raises ValueError for what that format cannot hold, OSError.
    """
    from safetensors.torch import save_file
    is_gpt2 = config.position == 'learned'
    # Hugging Face's GPT-2 always has biases, and Llama's family says how wide its MLP is
    known = {'bias': True} if is_gpt2 else {'n_inner': config.n_inner or 4 * config.n_embd}
    config = dataclasses.replace(config, **known)
    hf = (config_to_hugging_face if is_gpt2 else families.config_of_fields)(config)
    check_kept(config, hf)
    tensors = tensors_of_gpt2(weights, config.n_layer) if is_gpt2 else families.tensors_of_state(
        weights, vars(config))
    tensors = {name: w.detach().to('cpu', dtype).contiguous() for name, w in tensors.items()}
    hf.dtype = str(dtype).removeprefix('torch.')
    broken = next((name for name, w in tensors.items() if not all_finite(w)), None)
    if broken is not None:
        raise ValueError(f"{broken} holds numbers that are no finite {hf.dtype}: nothing is written")
    with whole_files(folder) as beside:
        hf.save_pretrained(beside)
        save_file(tensors, os.path.join(beside, 'model.safetensors'), {'format': 'pt'})


def check_kept(config, hf):
    """Raises ValueError unless transformers' config, read as loading does, says all that ours does."""
    read = config_from_hugging_face if hf.model_type == 'gpt2' else families.fields_of_hugging_face
    found = GPTConfig(**read(hf.to_dict(), config.name))
    for name, value in vars(config).items():
        if name not in ('name', 'dropout') and getattr(found, name) != value:
            raise ValueError(f"{config.name!r} has {name}={reprlib.repr(value)}, which a config.json of a "
                             f"{hf.model_type!r} model does not hold: nothing is written, keep the files "
                             "that it was loaded from")


def tensors_of_gpt2(state, n_layer):
    """State dict of GPT -> {name in Hugging Face's files: tensor}, biases of 0 where it has none."""
    tensors = {}
    for name in layout(n_layer, bias=True):
        if name in state:
            tensors[name] = state[name].T if is_conv1d(name) else state[name]
        else:
            tensors[name] = torch.zeros(len(state[f"{name.removesuffix('bias')}weight"]))
    return tensors


# ---- nanoGPT's checkpoints ----

def load_checkpoint(path):
    """nanoGPT's checkpoint -> (fields of GPTConfig, {name in GPT: OnFile in float32}).

    Raises ValueError, OSError kinds.
    """
    checkpoint = read_checkpoint(path)
    # torch.compile puts a prefix in front
    weights = {str(name).removeprefix('_orig_mod.'): w for name, w in checkpoint['model'].items()}
    weights = own_names(makers_of(weights, str(path)), str(path))
    # nanoGPT's own names no activation, it is the exact GELU; the oldest always had biases, unsaid
    given = dict(checkpoint['model_args'])
    if 'activation' in given:  # what `mlp` was called
        given['mlp'] = given.pop('activation')
    unknown = sorted(map(str, given.keys() - {field.name for field in dataclasses.fields(GPTConfig)}))
    if unknown:
        raise ValueError(f"{path} is no checkpoint of a GPT: its model_args hold {unknown[0]!r}")
    sizes = {'mlp': 'gelu', 'bias': 'transformer.ln_f.bias' in weights, 'name': str(path), **given}
    return sizes, checked(Lazily(weights), sizes, str(path), 'its model_args', {})


def read_checkpoint(path):
    """-> the dictionary that nanoGPT saves, read without running code of the file.

    Raises ValueError, OSError kinds.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"no checkpoint {path}: train one (python train.py), or name another "
                                "out_dir")
    checkpoint = read_pickle(path)
    parts = 'model', 'model_args'
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(name), dict) for name in parts):
        raise ValueError(f"{path} holds no 'model' and 'model_args': it is no checkpoint of nanoGPT or "
                         "train.py")
    return checkpoint


# ---- whatever the format ----

def checked(weights, sizes, source, config, other_names):
    """{GPT's name: tensor} -> the same in float32, checked one by one, without a head, which is tied.

    config: what the sizes were read from, and other_names: how it calls some of them, for the messages.
    Raises ValueError for what does not fit, for numbers when they are read.
    """
    for name in SIZES:
        if not isinstance(sizes.get(name), int) or sizes[name] < 1:
            raise ValueError(f"{other_names.get(name, name)} is {sizes.get(name)!r} in {config} of "
                             f"{source!r}, expected a whole number from 1 on")
    expected = layout(sizes['n_layer'], sizes['bias'])
    check_names(weights.keys() - {'lm_head.weight'}, expected.keys(), source,
                f"{config} (n_layer={sizes['n_layer']})")
    for name, dimensions in expected.items():
        check_shape(weights[name], name, dimensions, sizes, source, config, other_names)

    def read(name):
        w = float32_on_file(weights[name], name, source)
        if name == 'transformer.wte.weight' and 'lm_head.weight' in weights:
            w = checked_against(w, float32_on_file(weights['lm_head.weight'], 'lm_head.weight', source), (
                f"the lm_head.weight of {source!r} is not its wte.weight: a head of its own is not "
                "computed here, only GPT-2's, which is tied to the embedding"))
        return w
    return Lazily({name: functools.partial(read, name) for name in expected})


def layout(n_layer, bias):
    """{name in GPT: shape in words} of all parameters but the head."""
    block = {'ln_1': ('n_embd',), 'attn.c_attn': ('3 * n_embd', 'n_embd'),
             'attn.c_proj': ('n_embd', 'n_embd'), 'ln_2': ('n_embd',),
             'mlp.c_fc': ('n_inner', 'n_embd'), 'mlp.c_proj': ('n_embd', 'n_inner')}
    modules = {f'h.{i}.{name}': shape for i in range(n_layer) for name, shape in block.items()}
    modules['ln_f'] = ('n_embd',)
    shapes = {'wte.weight': ('vocab_size', 'n_embd'), 'wpe.weight': ('block_size', 'n_embd')}
    shapes |= {f'{name}.weight': shape for name, shape in modules.items()}
    if bias:
        shapes |= {f'{name}.bias': shape[:1] for name, shape in modules.items()}
    return {f'transformer.{name}': shape for name, shape in shapes.items()}


def check_names(names, expected, source, config):
    surplus, missing = sorted(names - expected), sorted(expected - names)
    heads = [name.removeprefix('transformer.') for name in surplus
             if not re.match(r'transformer\.(h\.\d+|ln_f|wte|wpe)\.', name)]
    if heads:
        raise ValueError(f"{source!r} holds {heads[0]}, a head for another task than writing: load it with "
                         "transformers' GPT2LMHeadModel, and save that with save_pretrained")
    if missing:
        raise ValueError(f"the weights of {source!r} are incomplete: {missing[0]} is missing, which "
                         f"{config} asks for")
    if surplus:
        raise ValueError(f"the weights of {source!r} are not those of {config}: nothing there takes "
                         f"{surplus[0]}")


def check_shape(w, name, dimensions, sizes, source, config, other_names):
    C = sizes['n_embd']
    numbers = {**sizes, '3 * n_embd': 3 * C, 'n_inner': sizes.get('n_inner') or 4 * C}
    wanted, found = tuple(numbers[d] for d in dimensions), tuple(w.shape)
    if found != wanted:
        differs = [d for d, a, b in zip(dimensions, found, wanted) if a != b] or dimensions
        field = other_names.get(differs[0], differs[0])
        raise ValueError(f"the weights of {source!r} are not those of {config}, where {field} is "
                         f"{numbers[differs[0]]}: {name} has the shape {found}, expected {wanted}")


def first_line(error):
    """What a library says, in one line: its first, and the next where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ['no message']
    return f"{type(error).__name__}: {' '.join(lines[:2]) if lines[0].endswith(':') else lines[0]}"
