"""
Opens the memory that settings name, and attaches it to a model as they say.
"""
import os
import sys

from core.library import is_library
from core.texts import read_text
from memory import PersistentMemory
from reader import Reading


def open_memory(model, tokenizer, config):
    """The memory that the settings name, attached to the model as they say; None where they name no memory
    or no layer.

    A memory_file that exists is loaded (a folder in the original project's layout is imported); else it is
    built from memory_text and saved; a text without a file is remembered for this run. A line on stderr
    says what is otherwise than the settings have it. Raises FileNotFoundError that says how to build what
    is missing, ValueError, OSError.
    """
    path, text, layers = config['memory_file'], config['memory_text'], config['memory_layers']
    if not path and not text:
        return None
    if not layers and config['memory_method'] != 5:
        print("no memory is read: memory_layers is (), name the layers that read", file=sys.stderr)
        return None
    is_there = os.path.exists(path)
    if is_there:
        memory = load_memory(path, text, model, tokenizer, layers)
    else:
        memory = remembered(model, tokenizer, config)
    attach(model, memory, config)  # before it is saved: a setting that does not fit leaves no file
    if is_there:
        say_differences(path, memory, config)
    elif path:
        save_new(memory, path)
    return memory


def remembered(model, tokenizer, config):
    """A memory of memory_text. Raises FileNotFoundError where there is no text to build memory_file from."""
    path, text, layers = config['memory_file'], config['memory_text'], config['memory_layers']
    if not text:
        heads = f" --index_heads='{tuple(config['index_heads'])}'" if config['memory_method'] == 5 else ''
        raise FileNotFoundError(f"no memory {path!r}: build it with python build_memory.py "
                                f"--text=FILE:your.txt --memory_file={path} "
                                f"--memory_layers={','.join(map(str, layers)) or repr('()')} "
                                f"--init_from={config['init_from']}{heads}")
    source = text if text.startswith('FILE:') else ''
    left_out, chat, system = config['bookkeeping_tokens'], config['chat'], read_text(config['system'])
    heads = config['index_heads'] if config['memory_method'] == 5 else ()
    return PersistentMemory.from_texts(model, [read_text(text)], tokenizer, layers, heads, 'values', left_out,
                                       '\n', [source], chat, system)


def load_memory(path, text, model, tokenizer, layers=()):
    """A memory file or library (of it these layers, () is all), or old folder.

    Raises ValueError when it is of another tokenizer, or of another text than `text` (not ''), as far as a
    folder holds its text.
    """
    is_old = os.path.isdir(path) and not is_library(path)
    memory = (PersistentMemory.from_folder(path, model, tokenizer) if is_old
              else PersistentMemory.load(path, model, layers))
    if memory.tokenizer and not tokenizer.answers_to(memory.tokenizer):
        raise ValueError(f"{path} was written with the tokenizer {memory.tokenizer!r}, "
                         f"the model has {tokenizer.name!r}: name another memory_file, or build it again "
                         "with build_memory.py")
    can_tell = not is_old or any(entry['text'].strip() for entry in memory.texts)
    if text and can_tell and not holds(memory, read_text(text)):
        raise ValueError(f"{path} holds another text than memory_text: --memory_text= reads it as it is, "
                         "or name another memory_file")
    return memory


def holds(memory, text):
    """Whether a text is remembered, whole or in windows."""
    live = memory.held.live_texts
    windows = [entry for entry in live if 'window' in entry
               and text[entry['start']:entry['end']] == entry['text']]
    found = {(entry['source'], entry['of']): set() for entry in windows}
    for entry in windows:
        found[entry['source'], entry['of']].add(entry['window'])
    return (text.strip() in (entry['text'].strip() for entry in live)
            or any(len(some) == of for (_, of), some in found.items()))


def say_differences(path, memory, config):
    """One line on stderr for each way in which a memory that exists is not what the settings would have
    built."""
    left_out = config['bookkeeping_tokens']
    if config['memory_text'] and not any(entry['text'].strip() for entry in memory.texts):
        print(f"{path} is read as it is, memory_text is not used: the folder does not hold its text",
              file=sys.stderr)
    # an old folder does not say how it was built
    if os.path.isdir(path) and not is_library(path) and memory.bookkeeping_tokens != left_out:
        print(f"{path} is read as it is: bookkeeping_tokens={left_out} is not used", file=sys.stderr)
    elif memory.bookkeeping_tokens != left_out:
        print(f"{path} was built with bookkeeping_tokens={memory.bookkeeping_tokens}, and is read as it is: "
              f"for {left_out} build it again with build_memory.py", file=sys.stderr)
    if len(memory) == 0:
        print(f"{path} holds no tokens: nothing will be read", file=sys.stderr)


def save_new(memory, path):
    """Saves, unless another process has made a file of that name meanwhile: then that one stays, which is
    said on stderr."""
    try:
        memory.save(path, replace=False)
    except FileExistsError:
        if not os.path.exists(path):  # a file stands where a folder should
            raise
        print(f"{path} was made by another process meanwhile: it stays, this run reads what it has built",
              file=sys.stderr)


def attach(model, memory, config):
    """Lets the layers that a script's settings name read the memory, as they say."""
    model.attach(memory, Reading.of(config))
