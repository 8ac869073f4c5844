"""
Builds a memory file: runs texts through a model once, and keeps what its attention layers keep of them.

$ python build_memory.py config/sample_gpt2.py --memory_file=memories/vancouver.safetensors
$ python build_memory.py --init_from=assets/tinyworld --text="FILE:memories/*.txt" --memory_layers=0,1,2,3,4,5 \\
      --memory_file=memories/all.safetensors
"""
import glob

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
init_from = 'gpt2'  # a hub name, a folder in Hugging Face format, or 'resume' (from out_dir/ckpt.pt)
out_dir = 'out'
text = ''  # the text to remember, 'FILE:path', or 'FILE:pattern', where each file is a text of its own; '' is memory_text
memory_text = ''  # where a config for sample.py keeps it
memory_file = ''  # the file to write
memory_layers = (9,)  # layers to keep, from 0
bookkeeping_tokens = 1  # first positions of each text that are left out: GPT-2 makes them an attention sink
split_lines = False  # each line is a text of its own
overwrite = False  # replace memory_file where it exists
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'float32'  # or 'bfloat16'
# -----------------------------------------------------------------------------
config = configure(globals())

import os  # noqa: E402

from tqdm import tqdm  # noqa: E402

from core.atomic import folder_of, whole_files  # noqa: E402


def read_texts():
    """-> [(source, text)], in the order of their names."""
    from load import read_text
    given = text or memory_text
    if not given:
        raise ValueError("no text to remember: give --text=FILE:your.txt")
    sources = [given]
    if given.startswith('FILE:') and not os.path.isfile(given[len('FILE:'):]):
        sources = [f'FILE:{path}' for path in sorted(glob.glob(given[len('FILE:'):]))] or sources
    texts = [(source if source.startswith('FILE:') else '', read_text(source)) for source in sources]
    if split_lines:
        texts = [(source, line) for source, whole in texts for line in whole.splitlines() if line.strip()]
    if not texts:
        raise ValueError("the text to remember is empty: give at least one line")
    return texts


def check_target():
    """What would fail after the work is done is better known before."""
    if not memory_file:
        raise ValueError("no file to write: give --memory_file=memories/name.safetensors")
    if os.path.exists(memory_file) and not overwrite:
        raise FileExistsError(f"{memory_file} exists: name another memory_file, or add --overwrite=True to replace it")
    with whole_files(folder_of(memory_file)):
        pass


def main():
    check_target()
    texts = read_texts()
    from load import load_model
    from memory import PersistentMemory, describe
    model, tokenizer = load_model(init_from, out_dir, device, dtype)
    memory = PersistentMemory(describe(model), memory_layers, bookkeeping_tokens, tokenizer.name)
    for source, one in tqdm(texts, 'texts', disable=len(texts) < 5):
        memory.add_text(model, one, tokenizer, source)
    memory.save(memory_file)
    print(f"{memory_file}: {os.path.getsize(memory_file) / 1e6:.2f} MB, {memory}")
    for entry in memory.texts[:10]:
        print(f"  {entry['rows']:5} tokens  {entry['source']}  {entry['text'][:60]!r}")
    if len(memory.texts) > 10:
        print(f"  and {len(memory.texts) - 10} more texts")


if __name__ == '__main__':
    with one_line_errors():
        main()
