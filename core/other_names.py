"""
Settings by the names of other projects: those of the original MTMTransformer project are translated, so
that its config files run unchanged; those of nanoGPT that a script lacks are refused where they would
change what is done.
"""
import os

from core.kinds import as_kind, fitted
from core.places import found

# names of the original project: those that are only renamed, and for each the settings it decides
RENAMED = {'mem_frac': 'memory_fraction', 'bookkeeping_frac': 'bookkeeping_fraction',
           'resid_frac': 'residual_fraction', 'knn_softmax_influence': 'softmax_scale',
           'remove_bookkeeping_token_mem_size': 'bookkeeping_tokens', 'memory': 'memory_text',
           'unadulterated_gpt': 'compare_plain'}
OLD_NAMES = {old: {new} for old, new in RENAMED.items()} | {
    'resid_frac': {'residual_fraction', 'memory_method'}, 'resid_only': {'memory_method'},
    'knn_num': {'memory_layers', 'memory_k'}, 'mem_store': {'memory_file'}, 'store_mem': {'memory_file'},
    'load_mem_store': {'memory_file', 'memory_text'}}
# what its config files build their texts with
OLD_HELPERS = {'bookkeeping_token', 'enc', 'encode', 'decode', 'substitute'}

# what a setting called like a helper needs beside it, or it is the helper of a file with old names
NEEDED_BESIDE = {'substitute': 'answer'}

# nanoGPT's settings by the script of this repository that has them
OF_TRAINING = {
    'eval_interval', 'log_interval', 'eval_iters', 'always_save_checkpoint', 'dataset', 'batch_size',
    'gradient_accumulation_steps', 'block_size', 'n_layer', 'n_head', 'n_embd', 'dropout', 'bias',
    'learning_rate', 'max_iters', 'weight_decay', 'beta1', 'beta2', 'grad_clip', 'decay_lr', 'warmup_iters',
    'lr_decay_iters', 'min_lr', 'eval_only', 'wandb_log'}
OF_SAMPLING = {'start', 'num_samples', 'max_new_tokens', 'temperature', 'top_k'}
OF_NONE = {'backend': 'leave it out, training is on one device',
           'real_data': 'leave it out', 'profile': 'leave it out'}


def is_old(name, settings):
    # only in a script that has what the name turned into; elsewhere it is a helper like any other
    return name not in settings and not OLD_NAMES.get(name, set()).isdisjoint(settings)


def helpers_of_a_template(given, settings):
    """Of a config file's names, {name: value}, those that are settings here, but in a file with old names
    what its texts are built with."""
    if not any(is_old(name, settings) for name in given):
        return []
    return [name for name, other in NEEDED_BESIDE.items()
            if name in given and name in settings and other not in given]


def translate(given):
    """Old names, {name: value} -> the settings that they decide together, {name: value}; writes nothing.

    An absent name counts as off (False, 0, ''), but of a group of which none is given nothing is decided.
    Raises ValueError for a knn_num that is not one k in whole layers, and for a value of another kind than
    the name has.
    """
    new = {RENAMED[name]: value for name, value in given.items() if name in RENAMED}
    off = {'resid_only': False, 'resid_frac': 0.0,
           'mem_store': '', 'load_mem_store': False, 'store_mem': False}
    old = {name: fitted(name, given.get(name, off[name]), off[name]) for name in off}
    if 'knn_num' in given:
        new |= layers_and_k(given['knn_num'])
    if 'resid_only' in given or 'resid_frac' in given:
        new['memory_method'] = 2 if old['resid_only'] else 3 if old['resid_frac'] > 0 else 1
    if given.keys() & {'mem_store', 'load_mem_store', 'store_mem'}:
        new |= file_of_store(old['mem_store'], old['load_mem_store'], old['store_mem'])
    return new


def layers_and_k(knn_num):
    try:
        # one int a layer, or {layer: int}; for the int of a layer also a list with one int a head
        rows = knn_num.items() if isinstance(knn_num, dict) else enumerate(knn_num)
        ks = {as_kind(layer, int): set(as_kind(row, tuple)) for layer, row in rows}
    except TypeError:
        raise ValueError(f'knn_num was given {knn_num!r}, expected an int a layer, '
                         'for example knn_num=[0,5]') from None
    layers = tuple(sorted(layer for layer in ks if ks[layer] - {0}))
    found = set().union(*(ks[layer] for layer in layers))
    if len(found) > 1:
        raise ValueError(f'knn_num was given {knn_num!r}, but one k for all layers and heads is supported')
    return {'memory_layers': layers, 'memory_k': found.pop()} if found else {'memory_layers': ()}


def file_of_store(mem_store, load_mem_store, store_mem):
    made = mem_store.rstrip('/') + '.safetensors'  # one file here, a folder in the original project
    if load_mem_store:  # what was stored is read, so no text is remembered in its place
        is_ours = os.path.isfile(found(made)) and not os.path.isdir(found(mem_store))
        return {'memory_file': made if is_ours else mem_store, 'memory_text': ''}
    return {'memory_file': made if store_mem and mem_store else ''}


def check_store(given, is_wanted):
    """Given all old names, {name: value}: ValueError for a store that is read or made but not named.

    -> one line for a store that `is_wanted` but neither read nor made, else ''.
    """
    is_used, folder = given.get('load_mem_store') or given.get('store_mem'), given.get('mem_store')
    if is_used and not folder:
        raise ValueError('load_mem_store and store_mem need a folder, '
                         'for example mem_store=stores/cats beside them')
    if not folder or is_used or not is_wanted:
        return ''
    return (f"mem_store {folder!r} is not read: add load_mem_store=True to read it, "
            "or store_mem=True to make it of the text that is remembered")


def refusal(name, value, settings, script):
    """Why a config file's `name` is refused, what to do included; '' where it may stand there.

    The rule: a name of nanoGPT's that the script lacks is refused, since the file was made for something
    that would not be done. It may stand where it changes nothing, that is where it is off, or where it
    says something to another of the scripts that share their files: sample.py, evaluate.py and
    build_memory.py.
    """
    is_off = isinstance(value, (bool, int, float)) and not value
    if name in settings or is_off:
        return ''
    shares_files = 'memory_text' in settings
    if name in OF_NONE:
        return f'{name} is a setting of nanoGPT that is not here: {OF_NONE[name]}'
    if name in OF_SAMPLING and not shares_files:
        return f'{name} is a setting of sample.py, {script} writes no samples: leave it out'
    if name == 'wandb_log':
        return f'{name} is a setting of train.py and evaluate.py, {script} logs nothing: leave it out'
    if name in OF_TRAINING and not (shares_files and name == 'batch_size'):  # evaluate.py has it
        return f'{name} is a setting of train.py, {script} does not train: leave it out, or run train.py'
    return ''
