"""
GPT-2 weights in and out: Hugging Face's format, by hub name or folder, and nanoGPT's checkpoints.
"""
import os

import torch

from core.atomic import whole_files

ACTIVATIONS = {'gelu_new': 'gelu_new', 'gelu_pytorch_tanh': 'gelu_new', 'gelu': 'gelu'}


def load(source):
    """A hub name or folder -> (fields of GPTConfig, state dict of GPT in float32). Raises FileNotFoundError, ValueError."""
    import huggingface_hub
    from transformers import AutoConfig, GPT2LMHeadModel
    from transformers.utils import logging
    logging.set_verbosity_error()  # what goes wrong is raised below, in one line
    logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity_error()
    here = os.path.isdir(source) or is_cached(source)
    try:
        if not here:
            huggingface_hub.HfApi().model_info(source, timeout=20)  # fails at once where the download would retry for half a minute
        config = AutoConfig.from_pretrained(source, local_files_only=here)
    except Exception as error:  # the hub's client raises a dozen types
        kind = 'folder' if os.path.isdir(source) else 'model name'
        raise FileNotFoundError(f"no GPT-2 could be loaded from the {kind} {source!r}: give a folder in Hugging Face format, or a hub "
                                f"name and a network (the embedded model is assets/tinyworld) [{type(error).__name__}]") from None
    if config.model_type != 'gpt2':
        raise ValueError(f"{source!r} is a {config.model_type!r} model, expected GPT-2's architecture ('gpt2')")
    try:
        hf, info = GPT2LMHeadModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True,
                                                   local_files_only=here)
    except Exception as error:
        raise ValueError(f"the weights of {source!r} could not be loaded, fetch or save them again [{first_line(error)}]") from None
    if info['missing_keys']:
        raise ValueError(f"the weights of {source!r} are incomplete: {min(info['missing_keys'])} is missing")
    surplus = [name for name in info['unexpected_keys'] if not name.endswith(('.attn.bias', '.attn.masked_bias'))]  # old masks
    if surplus:
        raise ValueError(f"the weights of {source!r} are not those of its config.json: nothing there takes {min(surplus)}")
    weights = {name: w.T if is_conv1d(name) else w for name, w in hf.state_dict().items()}
    return config_from_hugging_face(config, source), weights


def is_cached(name):
    """Whether the hub's cache holds this model, so that it loads without a network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    try:
        files = [try_to_load_from_cache(name, file) for file in ('config.json', 'model.safetensors', 'pytorch_model.bin')]
    except HFValidationError:  # no name that a hub could have
        return False
    return isinstance(files[0], str) and any(isinstance(file, str) for file in files[1:])


def save(config, weights, folder, dtype):
    """Writes a GPT's config and state dict as config.json and model.safetensors, each replaced whole. Raises OSError."""
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging
    logging.disable_progress_bar()
    hf = GPT2LMHeadModel(config_to_hugging_face(config))
    for name, tensor in hf.state_dict().items():
        source = weights.get(name, torch.zeros_like(tensor))  # Hugging Face's always has biases
        tensor.copy_(source.T if is_conv1d(name) else source)
    with whole_files(folder) as beside:
        hf.to(dtype).save_pretrained(beside)


def is_conv1d(name):
    """True for the weights that Hugging Face's GPT-2 keeps transposed, as (in, out)."""
    return name.endswith(('c_attn.weight', 'c_proj.weight', 'c_fc.weight'))


def config_from_hugging_face(hf, source):
    """GPT2Config -> fields of GPTConfig. Raises ValueError for a variant that model.py does not compute."""
    for name, value in (('scale_attn_weights', True), ('scale_attn_by_inverse_layer_idx', False), ('tie_word_embeddings', True),
                        ('add_cross_attention', False)):
        if getattr(hf, name) != value:
            raise ValueError(f"{source!r} has {name}={getattr(hf, name)}, only {value} is computed here")
    if hf.activation_function not in ACTIVATIONS:
        raise ValueError(f"{source!r} has activation {hf.activation_function!r}, expected one of {', '.join(ACTIVATIONS)}")
    return {'block_size': hf.n_positions, 'vocab_size': hf.vocab_size, 'n_layer': hf.n_layer, 'n_head': hf.n_head,
            'n_embd': hf.n_embd, 'n_inner': hf.n_inner or 0, 'activation': ACTIVATIONS[hf.activation_function],
            'layer_norm_epsilon': hf.layer_norm_epsilon, 'name': os.path.basename(os.path.normpath(source))}


def config_to_hugging_face(c):
    from transformers import GPT2Config
    return GPT2Config(vocab_size=c.vocab_size, n_positions=c.block_size, n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd,
                      n_inner=c.n_inner or None, activation_function=c.activation, layer_norm_epsilon=c.layer_norm_epsilon,
                      resid_pdrop=c.dropout, embd_pdrop=c.dropout, attn_pdrop=c.dropout, bos_token_id=None, eos_token_id=None)


def load_checkpoint(path):
    """nanoGPT's checkpoint -> (fields of GPTConfig, state dict of GPT). Raises FileNotFoundError, ValueError."""
    checkpoint = read_checkpoint(path)
    # one that does not name its activation is nanoGPT's own, which trains with the exact GELU
    sizes = {'activation': 'gelu', 'name': str(path), **checkpoint['model_args']}
    weights = {str(name).removeprefix('_orig_mod.'): w for name, w in checkpoint['model'].items()}  # torch.compile's prefix
    return sizes, {name: w for name, w in weights.items() if not name.endswith('.attn.bias')}  # the masks of old versions


def read_checkpoint(path):
    """-> the dictionary that nanoGPT saves, read without running any code of the file. Raises FileNotFoundError, ValueError."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint {path}: train one (python train.py), or name another out_dir")
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged or no checkpoint [{first_line(error)}]") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(name), dict) for name in ('model', 'model_args')):
        raise ValueError(f"{path} holds no 'model' and 'model_args': it is no checkpoint of nanoGPT or train.py")
    return checkpoint


def first_line(error):
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
