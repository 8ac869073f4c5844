"""
A model's files: the folder they are in, fetched from the hub where they are not here, and whether they can
be read.
"""
import json
import os
from difflib import get_close_matches

from core import hub
from core.places import found

# in the order of Hugging Face: the first that is there counts; an index names the files of weights in parts
WEIGHTS = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin',
           'pytorch_model.bin.index.json')
# OpenAI's own models and the one distilled from them: their vocabulary is GPT-2's
OF_OPENAI = {'gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'distilgpt2', 'distilbert/distilgpt2',
             *(f'openai-community/gpt2{size}' for size in ('', '-medium', '-large', '-xl'))}


def folder_of_model(source):
    """A folder, or a hub name -> the folder that holds its config.json and its weights.

    Raises OSError kinds.
    """
    path = found(source)
    if os.path.isdir(path):
        check_model_folder(path)
        return path
    refuse_path(source, path)
    cached = hub.cached_folder(source, 'config.json', *WEIGHTS)
    if cached and is_complete(cached):
        return cached
    files = hub.list_files(source)
    wanted = [name for name in ('config.json', 'adapter_config.json') if name in files]
    wanted += [name for name in WEIGHTS if name in files][:1]
    if not wanted:
        raise no_model(source, f"the hub has it, but without a config.json: it holds {some_of(files)}")
    folder = hub.fetch(source, wanted)
    check_model_folder(folder)
    missing = [name for name in parts_of(folder) if name not in wanted]
    hub.fetch(source, ['config.json', *missing], os.path.basename(folder))
    return folder


def no_model(source, reason):
    return FileNotFoundError(f"no model could be loaded from {source!r}: {reason}")


def refuse_path(source, path):
    """What is no folder may be a hub name, unless it cannot be one. Raises FileNotFoundError."""
    parent = os.path.dirname(path) or '.'
    if os.path.exists(path):
        raise no_model(source, "it is a file, " + (
            f"--init_from=resume --out_dir={parent} reads a ckpt.pt" if path.endswith('.pt') else
            f"give the folder it is in, {parent!r}, with config.json and model.safetensors"))
    if not source or source[0] in './~' or source[-1] == '/' or source.count('/') > 1 or '\\' in source:
        beside = os.listdir(parent) if os.path.isdir(parent) else []
        close = get_close_matches(os.path.basename(os.path.normpath(path)), beside, n=1)
        advice = (f", did you mean {os.path.join(parent, close[0])!r}?" if close else
                  ": give a folder in Hugging Face format, or a hub name (assets/tinyworld is embedded)")
        raise no_model(source, "there is no such folder" + advice)


def check_model_folder(folder):
    """Raises FileNotFoundError that says what the folder holds instead, and what to do with that."""
    names = sorted(os.listdir(folder))
    if 'adapter_config.json' in names:
        base = read_json(os.path.join(folder, 'adapter_config.json')).get('base_model_name_or_path')
        raise no_model(folder, f"it holds a PEFT adapter, to be added to the weights of {base!r}: merge "
                               "them first (merge_and_unload, then save_pretrained)")
    if 'config.json' not in names:
        raise no_model(folder, instead_of_config(folder, names))


def instead_of_config(folder, names):
    inner = [name for name in names if os.path.isfile(os.path.join(folder, name, 'config.json'))]
    inner.sort(key=lambda name: (len(name), name))  # checkpoint-1000 after checkpoint-500
    gguf = [name for name in names if name.endswith('.gguf')]
    if not names:
        return "the folder is empty"
    if gguf:
        return f"it holds no config.json, but {some_of(gguf)}: give {os.path.join(folder, gguf[0])}"
    if 'ckpt.pt' in names or 'last.pt' in names:
        return ("it holds a checkpoint of nanoGPT or train.py (ckpt.pt): take --init_from=resume "
                f"--out_dir={folder}")
    if inner:
        latest = os.path.join(folder, inner[-1])
        return f"it holds no config.json, but its {some_of(inner)} does: give {latest}"
    return ("it holds no config.json, expected a folder in Hugging Face format (config.json and "
            f"model.safetensors): what it has is {some_of(names)}")


def some_of(names, most=5):
    names = sorted(names)
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def is_complete(folder):
    names = os.listdir(folder)
    return 'config.json' in names and bool(set(WEIGHTS) & set(names)) and set(parts_of(folder)) <= set(names)


def parts_of(folder):
    """The names of the files that the weights are in.

    Raises FileNotFoundError for none, ValueError for a bad index.
    """
    names = os.listdir(folder)
    name = next((name for name in WEIGHTS if name in names), None)
    if name is None:
        gguf = sorted(name for name in names if name.endswith('.gguf'))
        if gguf:
            raise no_model(folder, f"its weights are a GGUF file's: give {os.path.join(folder, gguf[0])}")
        kinds = '.h5', '.msgpack', '.onnx', '.ot', '.bin', '.safetensors', '.pt', '.ckpt'
        others = some_of(name for name in names if name.endswith(kinds))
        raise no_model(folder, f"it has a config.json, but neither {WEIGHTS[0]} nor {WEIGHTS[2]}: " + (
            f"save {others} again with save_pretrained" if others else "fetch one too"))
    if not name.endswith('.json'):
        return [name]
    places = read_json(os.path.join(folder, name)).get('weight_map')
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{os.path.join(folder, name)} holds no 'weight_map': fetch or save it again")
    return sorted(set(places.values()))


def folder_of_tokenizer(source, belongs):
    """A folder or hub name -> the folder of its tokenizer, '' for none. belongs(name): which files."""
    path = found(source)
    if os.path.isdir(path):
        return path
    if source in OF_OPENAI:
        return ''
    cached = hub.cached_folder(source, 'config.json', *WEIGHTS)
    names = set(os.listdir(cached)) if cached else set()
    if 'tokenizer.json' in names or {'vocab.json', 'merges.txt'} <= names:
        return cached
    # a model can be in the cache without its tokenizer, which then has to be asked for
    wanted = [name for name in hub.list_files(source, 'tokenizer') if belongs(name)]
    return hub.fetch(source, wanted, os.path.basename(cached) or None, 'tokenizer') if wanted else ''


def read_json(path):
    """-> the dictionary in it.

    Raises OSError where it may not be read, ValueError where it is something else.
    """
    check_file(path)
    try:
        with open(path, encoding='utf-8') as f:
            content = json.load(f)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error}): fetch or save it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dictionary: fetch or save it "
                         "again")
    return content


def check_file(path):
    """Raises OSError where a file may not be read, ValueError where it is empty or only stands for one."""
    try:
        with open(path, 'rb') as f:
            start = f.read(40)
    except OSError as error:  # libraries below would call it damaged, or missing
        raise type(error)(f"{path} cannot be read ({error.strerror}): change its permissions, or fetch it "
                          "again") from None
    if not start:
        raise ValueError(f"{path} is empty: fetch or save it again")
    if start.startswith(b'version https://git-lfs'):
        raise ValueError(f"{path} is a pointer of git-lfs, not the file itself: run git lfs pull in its "
                         "folder")
