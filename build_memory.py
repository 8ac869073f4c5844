"""
Builds a memory file: runs texts through a model once, and keeps what its attention layers keep of them.

$ python build_memory.py config/sample_gpt2.py --memory_file=memories/vancouver.safetensors
$ python build_memory.py --init_from=assets/tinyworld --text="FILE:memories/*.txt" --memory_layers=4,5 \\
      --memory_file=memories/all.safetensors
"""
from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
init_from = 'gpt2'  # a hub name, a folder, a .gguf file, 'smollm2', or 'resume' (from out_dir/ckpt.pt)
out_dir = 'out'
text = ''  # to remember; 'FILE:path'; 'FILE:pattern', a text a file, ** for folders; '' is memory_text
memory_text = ''  # where a config for sample.py keeps it
memory_file = ''  # the file to write
memory_layers = (9,)  # layers to keep, from 0
bookkeeping_tokens = 1  # first positions of each text that are left out: GPT-2 makes them an attention sink
split_lines = False  # each line is a text of its own; a line ends at a line feed
overwrite = False  # replace memory_file where it exists
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'float32'  # or 'bfloat16'
threads = 0  # of torch, 0 is its own choice
# -----------------------------------------------------------------------------
config = configure(globals(), written=('memory_file',))

import os  # noqa: E402, settings are checked before the slow imports

from tqdm import tqdm  # noqa: E402

from core.atomic import folder_of, whole_files  # noqa: E402
from core.texts import lines_of, read_texts  # noqa: E402
from load import load_model, use_threads  # noqa: E402
from memory import PersistentMemory, describe  # noqa: E402


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
    if not memory_file:
        raise ValueError("no file to write: give --memory_file=memories/name.safetensors")
    if os.path.isfile(memory_file) and not overwrite:
        raise FileExistsError(f"{memory_file} exists: name another memory_file, "
                              "or add --overwrite=True to replace it")
    with whole_files(folder_of(memory_file)):
        pass


def build(texts):
    use_threads(threads)
    model, tokenizer = load_model(init_from, out_dir, device, dtype)
    memory = PersistentMemory(describe(model), memory_layers, bookkeeping_tokens, tokenizer.name)
    for source, one in tqdm(texts, 'texts', disable=len(texts) < 5):
        memory.add_text(model, one, tokenizer, source)
    return memory


def main():
    check_target()
    memory = build(texts_to_remember())
    try:
        memory.save(memory_file, replace=overwrite)
    except FileExistsError:
        if not os.path.exists(memory_file):  # a file stands where a folder should
            raise
        raise FileExistsError(f"{memory_file} was made by another process meanwhile, and stays: "
                              "name another memory_file, or add --overwrite=True to replace it") from None
    print(f"{memory_file}: {os.path.getsize(memory_file) / 1e6:.2f} MB, {memory}")
    for entry in memory.texts[:10]:
        print(f"  {entry['rows']:5} tokens  {entry['source']}  {entry['text'][:60]!r}")
    if len(memory.texts) > 10:
        print(f"  and {len(memory.texts) - 10} more texts")


if __name__ == '__main__':
    with one_line_errors():
        main()
