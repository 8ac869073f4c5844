"""
Builds a memory: runs texts through a model once, and keeps what its attention layers keep of them. Adds to
one, lists it, forgets from it, merges two.

$ python build_memory.py config/sample_gpt2.py --memory_file=memories/vancouver.safetensors
$ python build_memory.py --init_from=assets/tinyworld --text="FILE:memories/*.txt" --memory_layers=4,5 \\
      --memory_file=memories/all.safetensors
$ python build_memory.py --memory_file=memories/all.safetensors --list=True
"""
from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
init_from = 'gpt2'  # a hub name, a folder, a .gguf file, 'smollm2', or 'resume' (from out_dir/ckpt.pt)
out_dir = 'out'
text = ''  # to remember; 'FILE:path'; 'FILE:pattern' or 'FILE:folder', a text a file; '' is memory_text
memory_text = ''  # where a config for sample.py keeps it
memory_file = ''  # the file to write, a .safetensors; a name without an ending is a library, a folder
memory_layers = (9,)  # layers to keep, from 0; () is all
index_heads = ()  # method 5: ((layer, query head), ...) whose keys find a text
keep = 'values'  # or 'tokens': of index heads the keys alone, a recalled text runs through the model again
memory_dtype = 'float32'  # of the rows in the file, or 'bfloat16'; 'int8' for keep = 'tokens', a quarter
bookkeeping_tokens = 1  # first positions of each text that are left out: GPT-2 makes them an attention sink
memory_prefix = ''  # what each text is written behind; '' is the header that chat gives, else a line feed
memory_ending = ''  # what stands behind each, such as the line feed before a question
chat = False  # write texts behind the model's chat template, up to the user's words
system = ''  # what the system says in it
window_tokens = 0  # longer texts are cut; 0 is 256 with index_heads, else as many as the model sees
window_overlap = 32  # tokens, about, that a window shares with the one before it: its last sentences
split_lines = False  # each line is a text of its own; a line ends at a line feed
append = False  # add to memory_file where it exists; what is there already is passed over
overwrite = False  # replace memory_file where it exists
merge = ''  # another memory file or library, whose texts are added to memory_file; no text is read
forget = ''  # numbers of texts, e.g. 3,7, or a source; no text is read
compact = False  # of a library: what is forgotten leaves the disk; no text is read
list = False  # list what memory_file holds; no text is read
engine = 'process'  # or 'ray': texts are shared out over a cluster
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'float32'  # of the model, or 'bfloat16', 'int8', 'int4'
threads = 0  # of torch, 0 is its own choice
# -----------------------------------------------------------------------------
config = configure(globals(), written=('memory_file',))

import os  # noqa: E402, settings are checked before the slow imports
import sys  # noqa: E402

from tqdm import tqdm  # noqa: E402

from core import library, stored  # noqa: E402
from core.atomic import folder_of, whole_files  # noqa: E402
from core.checks import check_choice  # noqa: E402
from core.narrow import check_dtype  # noqa: E402
from core.rows import Header  # noqa: E402
from core.texts import lines_of, read_text, read_texts  # noqa: E402
from core.windows import cut  # noqa: E402
from lab.shares import ENGINES, loaded, shares_of  # noqa: E402
from load import use_threads  # noqa: E402
from memory import PersistentMemory, describe  # noqa: E402

# ---- remember ----

def texts_to_remember():
    """-> [(source, text)], in the order of their names."""
    given = text or memory_text
    if not given:
        raise ValueError("no text to remember: give --text=FILE:your.txt")
    texts = read_texts(given)
    if split_lines:
        texts = [(source, line) for source, whole in texts for line in lines_of(whole)]
    if not texts:
        raise ValueError("the text to remember is empty: give at least one line")
    return texts


def check_target():
    """What would fail after the work is done is better known before."""
    if os.path.isdir(memory_file):
        if overwrite:
            raise FileExistsError(f"{memory_file} is a folder, which is not replaced: remove it, or name "
                                  "another")
        if os.listdir(memory_file) and not library.is_library(memory_file):
            raise FileExistsError(f"{memory_file} is a folder of other files: name another, or a file in it")
    if os.path.exists(memory_file) and not (overwrite or append) and not is_empty(memory_file):
        instead = "" if os.path.isdir(memory_file) else ", or --overwrite=True to replace it"
        raise FileExistsError(f"{memory_file} exists: name another memory_file, add --append=True to add to "
                              f"it{instead}")
    if engine != 'process' and not stored.is_folder(memory_file):
        raise ValueError(f"engine is {engine!r}, which writes a library: name a memory_file without an "
                         "ending")
    with whole_files(memory_file if os.path.isdir(memory_file) else folder_of(memory_file)):
        pass


def is_empty(path):
    return os.path.isdir(path) and not os.listdir(path)


def remember():
    texts = texts_to_remember()
    check_target()
    use_threads(threads)
    arguments = init_from, out_dir, device, dtype
    model, tokenizer = loaded(*arguments)
    memory = memory_to_fill(model, tokenizer)
    prefix = (memory_prefix or '\n') if memory.bookkeeping_tokens else ''
    header = Header(prefix, chat and not memory_prefix, read_text(system), memory_ending)
    entries = new_entries(texts, model, tokenizer, header, memory)
    tokens = [len(tokenizer.encode(entry['text'])) if entry['text'] else 0 for entry in entries]
    with tqdm(total=sum(tokens), desc='tokens', unit='', unit_scale=True, disable=sum(tokens) < 1000) as bar:
        if not stored.is_folder(memory_file):
            memory.add_entries(model, entries, tokenizer, header, bar.update)
            save(memory)
            return
        job = {'model': arguments, 'description': memory.description(), 'header': header, 'threads': threads}
        for file in ENGINES[engine](shares_of(entries, tokens, memory), job, bar.update):
            library.append(memory_file, [file])


def memory_to_fill(model, tokenizer):
    """Of the kind that the settings say; where one is appended to of its kind, a file with all it holds."""
    if append and os.path.isfile(memory_file):
        memory = PersistentMemory.load(memory_file, model)
    elif append and library.is_library(memory_file):
        held = library.read(memory_file).shared
        memory = PersistentMemory.of(held)
        memory.check(model)
        memory.header = tuple(held['header'])
    else:
        memory = PersistentMemory(describe(model), layers_to_keep(model), bookkeeping_tokens, tokenizer.name,
                                  index_heads, keep, memory_dtype)
    say_differences(memory, model)
    return memory


def layers_to_keep(model):
    return () if keep == 'tokens' else tuple(memory_layers or range(model.config.n_layer))


def say_differences(memory, model):
    """A line on stderr for each setting that what is appended to was not built with."""
    for name, held, given in (('memory_layers', memory.layers, tuple(sorted(layers_to_keep(model)))),
                              ('index_heads', memory.index_heads, tuple(sorted(set(index_heads)))),
                              ('keep', memory.keep, keep), ('memory_dtype', memory.dtype, memory_dtype),
                              ('bookkeeping_tokens', memory.bookkeeping_tokens, bookkeeping_tokens)):
        if held != given:
            print(f"{memory_file} was built with {name}={held!r}, and what is added is too: not {given!r}",
                  file=sys.stderr)


def new_entries(texts, model, tokenizer, header, memory):
    """The texts, cut to windows, without those that memory_file holds already."""
    longest = window_tokens or header.longest_text(model, tokenizer, memory.index_heads)
    sources, texts = zip(*texts)
    entries = cut(texts, sources, tokenizer, longest, window_overlap, header.text(tokenizer))
    if not (append and os.path.exists(memory_file)) or is_empty(memory_file):
        return entries
    check_header(memory, tokenizer, header, entries)
    there = [*stored.live_texts(memory_file).values()]
    check_ending(there, header)
    held = {key_of(entry) for entry in there}
    new = [entry for entry in entries if key_of(entry) not in held]
    if len(new) < len(entries):
        say_passed_over(len(entries) - len(new), len(entries))
    return new


def say_passed_over(count, of):
    print(f"{count} of {of} texts {'is' if count == 1 else 'are'} in {memory_file} already: passed over")


def key_of(entry):
    return entry['source'], entry['text'], entry.get('start', 0)


def check_header(memory, tokenizer, header, entries):
    ids, left_out = header.encode(entries[0], tokenizer, memory.bookkeeping_tokens)
    if memory.index_heads and memory.header and tuple(ids[:left_out]) != memory.header:
        theirs, ours = (tokenizer.decode(part) for part in (memory.header, ids[:left_out]))
        raise ValueError(f"the texts of {memory_file} stand behind {theirs!r}, these would behind {ours!r}: "
                         "give the same memory_prefix, chat and system")


def check_ending(there, header):
    if there and ('ending' in there[-1]) != bool(header.ending):
        theirs = 'an ending' if 'ending' in there[-1] else 'none'
        raise ValueError(f"the texts of {memory_file} have {theirs} behind them, these would have "
                         f"{header.ending!r}: give the memory_ending that they were built with")


def save(memory):
    try:
        memory.save(memory_file, replace=overwrite or append)
    except FileExistsError:
        if not os.path.exists(memory_file):  # a file stands where a folder should
            raise
        raise FileExistsError(f"{memory_file} was made by another process meanwhile, and stays: "
                              "name another memory_file, or add --overwrite=True to replace it") from None


# ---- list, forget, merge, compact ----

def texts_of(count, of=''):
    return f"{count} text{of}" if count == 1 else f"{count} texts{of}"


def texts_are(count, of=''):
    return f"{texts_of(count, of)} {'is' if count == 1 else 'are'}"


def merge_new(memory, other):
    """Adds the other's texts that memory_file does not hold already -> how many."""
    held = {key_of(entry) for entry in memory.held.live_texts}
    there = [number for number in other.held.live.tolist()
             if other.texts[number]['text'] and key_of(other.texts[number]) in held]
    of = len(other.held.live)
    if there:
        other.home = None  # its own files stay as they are
        other.forget(there)
        other.compact()
    memory.merge(other)
    if there:
        say_passed_over(len(there), of)
    return len(other.held.live)


def change():
    """No model is loaded: what is there needs none."""
    memory = PersistentMemory.load(memory_file, None)
    if merge:
        other = PersistentMemory.load(merge, None)
        try:
            added = merge_new(memory, other)
        except ValueError as error:
            raise ValueError(f"{merge} cannot be merged into {memory_file}: {error}") from None
        print(f"{texts_are(added, f' of {merge}')} added")
    if forget:
        is_numbers = all(part.strip().isdecimal() for part in forget.split(','))
        count = memory.forget([int(part) for part in forget.split(',')] if is_numbers else forget)
        where = ("stay on the disk until --compact=True" if memory.home else "are in the file no more")
        print(f"{texts_are(count)} forgotten, recalled no more, and the words {where}")
    if merge or forget:
        memory.save(memory_file)
    if compact:
        count = memory.compact()
        print(f"{texts_are(count)} gone that had been forgotten: no file of {memory_file} has the words now")
    if list:
        for number, entry in enumerate(memory.texts):
            print(line_of(number, entry, number in memory.forgotten))


def line_of(number, entry, is_forgotten=False):
    place = f" {entry['start']}-{entry['end']}" if 'window' in entry else ''
    words = ' (forgotten)' if is_forgotten else f" {entry['text'][:60]!r}"
    return f"{number:6} {entry['rows']:5} tokens  {entry['source']}{place} {words}"


def describe_file():
    held = stored.live_texts(memory_file)
    paths = [memory_file]
    if os.path.isdir(memory_file):
        paths = [os.path.join(memory_file, segment.file) for segment in library.read(memory_file).segments]
    size = sum(map(os.path.getsize, paths)) / 1e6
    rows = sum(entry['rows'] for entry in held.values())
    print(f"{memory_file}: {size:.2f} MB, {len(held)} text{'s' * (len(held) != 1)}, {rows} tokens")
    return held


def main():
    if not memory_file:
        raise ValueError("no file to write: give --memory_file=memories/name.safetensors")
    check_choice('engine', engine, tuple(ENGINES))
    check_dtype(memory_dtype, keep)
    if list or forget or merge or compact:
        change()
        describe_file()
        return
    remember()
    held = [*describe_file().items()]
    if append and len(held) > 10:
        print(f"  and before them {texts_of(len(held) - 10)}; the newest:")
    for number, entry in held[-10:] if append else held[:10]:
        print(line_of(number, entry))
    if not append and len(held) > 10:
        print(f"  and {texts_of(len(held) - 10)} more")


if __name__ == '__main__':
    is_library = stored.is_folder(memory_file)
    with one_line_errors('what is remembered stays, add --append=True to go on' if is_library else ''):
        main()
