"""
Settings from config files and the command line, for every script of this repository:

    $ python sample.py config/cats.py --temperature=0.9 --memory_layers=9,10 --start="\\nCats are"

A script's settings are the globals of its block between two dashed rulers. Config files (Python, only the lines that
differ) and --key=value override them in the order given, the later wins. Globals as settings are the idea of nanoGPT's
configurator (Andrej Karpathy, MIT). On the command line a text needs no quotes: it is taken as it stands, with
backslash-n read as a new line; one wholly in quotes is read as Python would. Other values are Python literals.
"""
import ast
import errno
import re
import sys
import traceback
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from types import ModuleType

# the types a setting can have: how an error names it, and an example that is right in a shell and in a config file
KINDS = {bool: ('a bool', 'True'), int: ('an int', '5'), float: ('a float', '0.5'), str: ('a str', "'Cats'"),
         tuple: ('a tuple of ints', '9,10'), list: ('a list of dictionaries', "[{'memory_k': [1, 5]}]")}

# names of the original MTMTransformer project: those that are only renamed, and for each the settings it decides
RENAMED = {'mem_frac': 'memory_fraction', 'bookkeeping_frac': 'bookkeeping_fraction', 'resid_frac': 'residual_fraction',
           'knn_softmax_influence': 'softmax_scale', 'remove_bookkeeping_token_mem_size': 'bookkeeping_tokens',
           'memory': 'memory_text', 'unadulterated_gpt': 'compare_plain'}
OLD_NAMES = {old: {new} for old, new in RENAMED.items()} | {
    'resid_frac': {'residual_fraction', 'memory_method'}, 'resid_only': {'memory_method'},
    'knn_num': {'memory_layers', 'memory_k'}, 'mem_store': {'memory_file'}, 'store_mem': {'memory_file'},
    'load_mem_store': {'memory_file', 'memory_text'}}


def configure(settings):
    """Overrides a script's settings with sys.argv, in place; called as configure(globals()) right after the block.

    settings: a module's globals, of which those without a leading _ that hold a bool, int, float, str, tuple or list count.
    Returns a dict of the final settings alone, for a log. Reads the config files named. --help prints the script's
    docstring and settings block and exits 0; an error prints one line and exits 1, and `settings` stays as it was.
    """
    with one_line_errors():
        arguments = sys.argv[1:]
        if '-h' in arguments or '--help' in arguments:
            print(help_text(settings))
            raise SystemExit(0)
        values = {name: value for name, value in settings.items() if name[:1] != '_' and type(value) in KINDS}
        # options side by side are one source, as a file is: an old --resid_only and --resid_frac decide together
        for are_options, group in groupby(arguments, lambda argument: argument.startswith('--')):
            if are_options:
                apply(values, read_options(group, values), '')
            else:
                for path in group:
                    apply(values, read_config(path, values), f'{path}: ')
        settings.update(values)
        return values


@contextmanager
def one_line_errors():
    """Around a script's job: what a user can cause ends as one line `error: ...` on stderr, without a traceback.

    ValueError and OSError (a missing file, no permission, a full disk) exit with code 1, Ctrl-C with 130. Any other
    exception is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError, KeyboardInterrupt) as e:
        lines = (line.strip() for line in describe(e).splitlines())
        print('error:', ' '.join(line for line in lines if line), file=sys.stderr)
        raise SystemExit(130 if isinstance(e, KeyboardInterrupt) else 1) from None


def describe(e):
    if isinstance(e, KeyboardInterrupt):
        return 'interrupted'
    if getattr(e, 'errno', None) == errno.ENOSPC:
        return f'the disk is full, {e.filename or "a file"} could not be written: free some space and run this again'
    return str(e) or type(e).__name__


def help_text(settings):
    # the source itself, so that help cannot drift from the defaults and their comments
    parts = re.split(r'^# ----.*\n?', Path(settings['__file__']).read_text(encoding='utf-8'), flags=re.MULTILINE)
    if len(parts) < 3:
        raise ValueError(f"{settings['__file__']} has no settings block, expected one between two lines '# -----'")
    return f"{(settings.get('__doc__') or '').strip()}\n\n{parts[1]}".strip()


def read_options(options, settings):
    given = {}
    for option in options:
        name, equals, text = option[2:].partition('=')
        if name not in settings and not is_old(name, settings):
            close = get_close_matches(name, settings, n=1)
            raise ValueError(f'unknown setting --{name}, ' + (f'did you mean --{close[0]}?' if close else 'see --help'))
        kind = type(settings[name]) if name in settings else str if name in ('memory', 'mem_store') else bool
        if not equals:
            raise ValueError(f'--{name} has no value: write --{name}=VALUE, for example --{name}={KINDS[kind][1]}')
        given.pop(name, None)  # a name given twice counts where it stands last
        given[name] = read_value(text, kind)
    return given


def read_value(text, kind):
    if kind is str and not re.fullmatch(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""", text):
        return text.replace('\\n', '\n')
    try:
        return ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # not a literal: whether a text will do is for the type check to say


def read_config(path, settings):
    text = read_file(path, settings)
    names = run_config(path, text, settings)
    # an assignment counts even where it repeats the value in force
    assigned = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    given = {name: value for name, value in names.items() if name[:1] != '_' and not callable(value)
             and not isinstance(value, ModuleType) and (name in assigned or value is not settings.get(name))}
    for name in sorted(given.keys() - settings.keys() - OLD_NAMES.keys()):
        # other names are free for helpers, but one this near to a setting is a typo that would silently do nothing
        for close in get_close_matches(name, settings, n=1, cutoff=0.8):
            raise ValueError(f'{path}: {name} is not a setting, did you mean {close}? (a helper may be called _{name})')
    # where a file gives both an old name and a setting, the setting comes last and wins
    return {name: given[name] for name in sorted(given, key=lambda name: name in settings)}


def run_config(path, text, settings):
    names = dict(settings)
    try:
        exec(compile(text, path, 'exec'), names)  # noqa: S102, a config file is a program, and its author the user
    except (Exception, SystemExit) as e:  # noqa: BLE001, whatever it raises is the file's error
        lines = [line for frame, line in traceback.walk_tb(e.__traceback__) if frame.f_code.co_filename == path]
        # a file that does not compile has no frame: the error itself knows the line
        line, message = (lines[-1], e) if lines else (getattr(e, 'lineno', '?'), getattr(e, 'msg', e))
        raise ValueError(f'{path}, line {line}: {type(e).__name__}: {message}') from None
    return names


def read_file(path, settings):
    try:
        return Path(path).read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise FileNotFoundError(f'no config file {path}, {advice(path, settings)}') from None
    except (OSError, UnicodeDecodeError) as e:
        what = e.strerror if isinstance(e, OSError) else f'byte {e.start} is not UTF-8'
        raise ValueError(f'config file {path!r} cannot be read ({what}), expected a Python file in UTF-8') from None


def advice(path, settings):
    name = path.lstrip('-').partition('=')[0]
    if name in settings:
        return f'did you mean --{name}=VALUE?'
    files = [file for folder in ('config', Path(path).parent) for file in sorted(Path(folder).glob('*.py'))]
    by_name = {file.name: file for file in files}
    close = get_close_matches(Path(path).name, by_name, n=1)
    return f'did you mean {by_name[close[0]]}?' if close else 'expected the path of a Python file, or --key=value'


def apply(settings, given, source):
    old = {name: given[name] for name in given if is_old(name, settings)}
    try:
        translated = translate_old_names(old)
        for name, value in given.items():
            origin = f' (from {name})' if name in old else ''
            new = {key: translated[key] for key in OLD_NAMES[name] & translated.keys()} if origin else {name: value}
            for key in sorted(new.keys() & settings.keys()):
                settings[key] = fitted(key, new[key], settings[key], origin)
    except ValueError as e:
        raise ValueError(f'{source}{e}') from None


def fitted(name, value, default, origin=''):
    what, example = KINDS[type(default)]
    try:
        return as_kind(value, type(default))
    except (TypeError, OverflowError):
        raise ValueError(f'{name}{origin} was given {value!r} ({type(value).__name__}), expected {what}, '
                         f'for example {name}={example}') from None


def as_kind(value, kind):
    if kind is tuple:
        return tuple(as_kind(item, int) for item in (value if isinstance(value, (tuple, list, range)) else (value,)))
    if kind is list:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            raise TypeError
        return list(value)
    accepted = {bool: int, float: (int, float)}.get(kind, kind)
    # True is an int to Python, but nobody means memory_k = True
    if not isinstance(value, accepted) or (value not in (0, 1) if kind is bool else isinstance(value, bool)):
        raise TypeError
    return kind(value)

# --- config files of the original project run unchanged


def is_old(name, settings):
    # only in a script that has what the name turned into; elsewhere it is a helper like any other
    return name not in settings and not OLD_NAMES.get(name, set()).isdisjoint(settings)


def translate_old_names(given):
    """The old names of one source, {name: value} -> the settings that they decide, {name: value}; touches no disk.

    An absent name counts as off (False, 0, ''), but of a group of which none is given nothing is decided. ValueError
    for a knn_num that is not one k in whole layers, and for a store that is to be read or made but has no folder.
    """
    new = {RENAMED[name]: value for name, value in given.items() if name in RENAMED}
    off = {'resid_only': False, 'resid_frac': 0.0, 'mem_store': '', 'load_mem_store': False, 'store_mem': False}
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
        raise ValueError(f'knn_num was given {knn_num!r}, expected an int a layer, for example knn_num=[0,5]') from None
    layers = tuple(sorted(layer for layer in ks if ks[layer] - {0}))
    found = set().union(*(ks[layer] for layer in layers))
    if len(found) > 1:
        raise ValueError(f'knn_num was given {knn_num!r}, but one k for all layers and heads is supported')
    return {'memory_layers': layers, 'memory_k': found.pop()} if found else {'memory_layers': ()}


def file_of_store(mem_store, load_mem_store, store_mem):
    if (load_mem_store or store_mem) and not mem_store:
        raise ValueError('load_mem_store and store_mem need a folder, for example mem_store=stores/cats beside them')
    if load_mem_store:  # what was stored is read, so no text is remembered in its place
        return {'memory_file': mem_store, 'memory_text': ''}
    return {'memory_file': mem_store.rstrip('/') + '.safetensors' if store_mem else ''}
