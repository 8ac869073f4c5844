"""
Settings from config files and the command line, for every script of this repository:

    $ python sample.py config/cats.py --temperature=0.9 --memory_layers=9,10 --start="\\nCats are"

A script's settings are the globals of its block between two dashed rulers. Config files (Python, only the
lines that differ) and --key=value override them in the order given, the later wins. Globals as settings
are the idea of nanoGPT's configurator (Andrej Karpathy, MIT). On the command line a text needs no quotes:
it is taken as it stands, with backslash-n read as a new line, but not in paths; one wholly in quotes is
read as Python would. Other values are Python literals. In paths ~ is the home folder, and what the
repository brings along is found from any folder (core/places.py).
"""
from core.interrupts import raise_from_here, stop_from_here  # first: from here on Ctrl-C is one line

# isort: split
import ast
import errno
import os
import re
import signal
import sys
import traceback
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from core.kinds import KINDS, fitted
from core.other_names import (
    NEEDED_BESIDE,
    OLD_HELPERS,
    OLD_NAMES,
    check_store,
    helpers_of_a_template,
    is_old,
    refusal,
    translate,
)
from core.places import REPOSITORY, found

raise_from_here()  # who imports this file may be no script of ours: configure knows

READ_PATHS = {'init_from', 'memory_file', 'merge', 'tokenizer_file', 'models'}  # of what is read,
WRITTEN_PATHS = {'out_dir', 'export_dir', 'publish_dir', 'out', 'redraw'}  # and of what is written
LITERAL = READ_PATHS | WRITTEN_PATHS | {'mem_store', 'dataset'}  # where backslash-n is part of a name


def configure(settings, written=()):
    """Overrides a script's settings with sys.argv, in place; called as configure(globals()) after the block.

    settings: a module's globals, of which those without a leading _ that hold a bool, int, float, str,
    tuple or list count. written: names of paths that this script writes where others read. Returns a dict
    of the final settings alone, for a log. Reads the config files named. --help prints the script's
    docstring and settings block and exits 0; an error prints one line and exits 1, and `settings` stays as
    it was.
    """
    with one_line_errors():
        arguments = sys.argv[1:]
        if '-h' in arguments or '--help' in arguments:
            print(help_text(settings), flush=True)
            raise SystemExit(0)
        defaults = {name: value for name, value in settings.items()
                    if name[:1] != '_' and type(value) in KINDS}
        values = read_sources(arguments, defaults, os.path.basename(settings.get('__file__', '')))
        values = {name: placed(name, value, written) for name, value in values.items()}
        settings.update(values)
    if settings.get('__name__') == '__main__':  # a script, whose slow imports come next
        stop_from_here()
    return values

# --- how a script ends


def ready_streams():
    """Backslash escapes for what a terminal or file that is not UTF-8 lacks, where Python gives up; and a
    stream that the shell has closed (>&-), None in Python, takes what is written and drops it."""
    for name in 'stdout', 'stderr':
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, 'w'))
        if hasattr(getattr(sys, name), 'reconfigure'):
            getattr(sys, name).reconfigure(errors='backslashreplace')


@contextmanager
def one_line_errors(again=''):
    """Around a script's job: what a user can cause ends as one line `error: ...` on stderr, no traceback.

    ValueError, OSError (a missing file, no permission, a full disk) and want of memory exit with code 1,
    Ctrl-C with 130 and the words `again` on how to go on. A closed pipe ends quietly, with the 141 that a
    shell gives other tools. Any other exception is a bug of ours and keeps its traceback.
    """
    ready_streams()
    raise_from_here()
    try:
        yield
        sys.stdout.flush()  # a closed pipe shows here, not at Python's own end, where nobody can catch it
    except (ValueError, OSError, KeyboardInterrupt, MemoryError, RuntimeError) as e:
        if isinstance(e, BrokenPipeError) or not takes_more(sys.stdout):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        if isinstance(e, BrokenPipeError):
            raise SystemExit(128 + signal.SIGPIPE) from None
        if isinstance(e, RuntimeError) and not is_want_of_memory(e):
            raise
        traceback.clear_frames(e.__traceback__)  # a progress bar ends before the line, not behind it
        lines = (line.strip() for line in describe(e, again).splitlines())
        print('error:', ' '.join(line for line in lines if line), file=sys.stderr)
        raise SystemExit(130 if isinstance(e, KeyboardInterrupt) else 1) from None


def takes_more(stream):
    try:
        stream.flush()
    except OSError:  # a full disk
        return False
    return True


def is_want_of_memory(e):
    # torch raises a RuntimeError for it, on a CPU without a type of its own
    name = type(e).__name__
    return name in ('MemoryError', 'OutOfMemoryError') or "can't allocate memory" in str(e)


def describe(e, again=''):
    if isinstance(e, KeyboardInterrupt):
        return f'interrupted: {again}' if again else 'interrupted'
    if is_want_of_memory(e):
        return 'there is not enough memory for this: ask for fewer texts at once, or take a smaller model'
    if getattr(e, 'errno', None) == errno.ENOSPC:
        file = e.filename or 'a file'
        return f'the disk is full, {file} could not be written: free some space and run this again'
    return str(e) or type(e).__name__


def help_text(settings):
    # the source itself, so that help cannot drift from the defaults and their comments
    source = Path(settings['__file__']).read_text(encoding='utf-8')
    parts = re.split(r'^# ----.*\n?', source, flags=re.MULTILINE)
    if len(parts) < 3:
        raise ValueError(f"{settings['__file__']} has no settings block, "
                         "expected one between two lines '# -----'")
    return f"{(settings.get('__doc__') or '').strip()}\n\n{parts[1]}".strip()


# --- what the sources say


def read_sources(arguments, defaults, script):
    """Config files and options, in order -> the settings."""
    values, given = defaults, []  # given: (name, value, source)
    for argument in arguments:
        read = read_option if argument.startswith('--') else read_config
        given += read(argument, values, script)
        values = decided(defaults, given)  # after each source: a config file sees what came before it
    say_what_is_not_read(values, given)
    return values


def read_option(option, settings, script):
    """--name=value -> [(name, value, '')]."""
    name, equals, text = option[2:].partition('=')
    if name not in settings and not is_old(name, settings):
        advice = refusal(name, True, settings, script)
        close = get_close_matches(name, settings, n=1)
        raise ValueError(f'unknown setting --{name}' + (
            f': {advice}' if advice else f', did you mean --{close[0]}?' if close else ', see --help'))
    kind = type(settings[name]) if name in settings else str if name in ('memory', 'mem_store') else bool
    if not equals:
        example = KINDS[kind][1]
        raise ValueError(f'--{name} has no value: write --{name}=VALUE, for example --{name}={example}')
    return [checked(name, read_value(name, text, kind), settings, '')]


def read_value(name, text, kind):
    if kind is str and not re.fullmatch(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""", text):
        return text if name in LITERAL or text.startswith('FILE:') else text.replace('\\n', '\n')
    try:
        return ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # not a literal: whether a text will do is for the type check to say


def read_config(path, settings, script):
    """A config file -> [(name, value, 'path: ')]. Of an old name and a setting the setting comes last, and
    wins."""
    text = read_file(path, settings)
    names = run_config(path, text, settings)
    # an assignment counts even where it repeats the value in force
    assigned = {node.id for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    given = {name: value for name, value in names.items()
             if name[:1] != '_' and not callable(value) and not isinstance(value, ModuleType)
             and (name in assigned or value is not settings.get(name))}
    check_helpers(path, given, settings, script)
    for name in helpers_of_a_template(given, settings):
        print(f'{path}: {name} is taken for a helper and not used: where it is meant as the setting, give '
              f'{NEEDED_BESIDE[name]} beside it', file=sys.stderr)
        del given[name]
    old = [name for name in given if is_old(name, settings)]
    new = [name for name in given if name in settings]
    return [checked(name, given[name], settings, f'{path}: ') for name in old + new]


def check_helpers(path, given, settings, script):
    """Other names are free for helpers, but not those that say what would not be done."""
    for name in sorted(given.keys() - settings.keys() - OLD_NAMES.keys() - OLD_HELPERS):
        advice = refusal(name, given[name], settings, script)
        if advice:
            raise ValueError(f'{path}: {advice}')
        # one this near to a setting is a typo that would silently do nothing
        for close in get_close_matches(name, settings, n=1, cutoff=0.8):
            raise ValueError(f'{path}: {name} is not a setting, did you mean {close}? '
                             f'(a helper may be called _{name})')


def run_config(path, text, settings):
    names = dict(settings)
    try:
        exec(compile(text, path, 'exec'), names)  # noqa: S102, a program whose author is the user
    except (Exception, SystemExit) as e:  # noqa: BLE001, whatever it raises is the file's error
        lines = [line for frame, line in traceback.walk_tb(e.__traceback__)
                 if frame.f_code.co_filename == path]
        # a file that does not compile has no frame: the error itself knows the line
        line, message = (lines[-1], e) if lines else (getattr(e, 'lineno', '?'), getattr(e, 'msg', e))
        raise ValueError(f'{path}, line {line}: {type(e).__name__}: {message}') from None
    return names


def read_file(path, settings):
    try:
        return Path(found(path)).read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise FileNotFoundError(f'no config file {path}, {advice(path, settings)}') from None
    except (OSError, UnicodeDecodeError) as e:
        what = e.strerror if isinstance(e, OSError) else f'byte {e.start} is not UTF-8'
        raise ValueError(f'config file {path!r} cannot be read ({what}), '
                         'expected a Python file in UTF-8') from None


def advice(path, settings):
    name = path.lstrip('-').partition('=')[0]
    if name in settings:
        return f'did you mean --{name}=VALUE?'
    folders = Path(REPOSITORY, 'config'), Path('config'), Path(path).parent
    by_name = {file.name: file for folder in folders for file in sorted(folder.glob('*.py'))}
    close = get_close_matches(Path(path).name, by_name, n=1)
    if not close:
        return 'expected the path of a Python file, or --key=value'
    file = by_name[close[0]]
    return f'did you mean {file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file}?'


# --- what is decided


def checked(name, value, settings, source):
    """(name, value, source) of a value that fits its setting, or the settings that an old name decides."""
    try:
        if name in settings:
            return name, fitted(name, value, settings[name]), source
        for key, new in translate({name: value}).items():
            if key in settings:
                fitted(key, new, settings[key], f' (from {name})')
    except ValueError as e:
        raise ValueError(f'{source}{e}') from None
    return name, value, source


def decided(defaults, given):
    """The settings after these sources: each is decided by what was said last about it.

    Old names of all sources are translated together, since they decide together: resid_only in a file and
    --resid_frac make one method.
    """
    values, places = dict(defaults), {}
    old = old_names(defaults, given)
    for place, (name, value, _) in enumerate(given):
        if name in defaults:
            values[name], places[name] = value, place
    together = translate({name: value for name, (_, value, _) in old.items()})
    for name, (place, value, _) in old.items():
        for key in translate({name: value}).keys() & defaults.keys():
            if place > places.get(key, -1):
                values[key] = fitted(key, together[key], defaults[key], f' (from {name})')
    return values


def old_names(settings, given):
    """{old name: (place, value, source)} of where each was given last."""
    return {name: (place, value, source) for place, (name, value, source) in enumerate(given)
            if name not in settings}


def say_what_is_not_read(values, given):
    """A line on stderr for an old store that is named but not read; ValueError where it lacks its folder."""
    old = old_names(values, given)
    # a file may name a store and read a text, but who types its name, or reads nothing else, means the store
    is_typed = 'mem_store' in old and not old['mem_store'][2]
    is_wanted = is_typed or not values.get('memory_file') and not values.get('memory_text')
    try:
        unread = check_store({name: value for name, (_, value, _) in old.items()}, is_wanted)
    except ValueError as e:
        source = max(old[name] for name in ('load_mem_store', 'store_mem') if name in old)[2]
        raise ValueError(f'{source}{e}') from None
    if unread:
        print(unread, file=sys.stderr)


def placed(name, value, written):
    """The value with its paths as they are opened; of a grid, those of its points."""
    if isinstance(value, list):
        return [{key: [placed(key, one, written) for one in options] if type(options) is list else options
                 for key, options in item.items()} for item in value]
    if not isinstance(value, str) or name not in READ_PATHS | WRITTEN_PATHS:
        return value
    if name == 'models':  # of bench.py, several
        return ','.join(map(found, value.split(',')))
    return os.path.expanduser(value) if name in {*WRITTEN_PATHS, *written} else found(value)
