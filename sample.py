"""
Writes text with GPT-2, plain and with a memory, side by side.

$ python sample.py config/tinyworld_recall.py
$ python sample.py config/sample_gpt2.py --num_samples=3
$ python sample.py --start="Cats are" --memory_text=FILE:memories/cats_praise.txt --memory_layers=6,7,8
"""
from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
init_from = 'gpt2'  # a hub name, a folder, a .gguf file, 'smollm2', or 'resume' (from out_dir/ckpt.pt)
out_dir = 'out'
start = '\n'  # the prompt, or 'FILE:prompt.txt'
chat = False  # start is a user's turn in the model's chat template, and an answer ends at its end token
system = ''  # with chat: what the system says first, or 'FILE:path'; '' leaves it to the template
num_samples = 5
max_new_tokens = 50
temperature = 0.8
top_k = 200  # draw from the k likeliest tokens only, 0 is all
seed = 1337  # of the first sample; the others' follow from it, see seed_list in core/sampling.py
seeds = ()  # one seed per sample, in place of seed and num_samples
compare_plain = True  # also write without the memory
compare_prompt = False  # also write without it, but with the remembered text in front of the prompt
method_text = 'memory'  # label of the texts with memory
memory_file = ''  # the memory to read; built from memory_text when it is missing
memory_text = ''  # a text to remember, or 'FILE:path'; without memory_file for this run only
memory_layers = (9,)  # layers that read, from 0; method 5: () is all
memory_heads = ()  # heads that read, () is all
memory_k = 5  # neighbours of a look-up
memory_method = 2  # 1, 2, 3 of the write-up; 4, extended attention; 5, recall of whole texts
memory_fraction = 0.0  # MF, how many ordinary tokens look up, 0 is none
bookkeeping_fraction = 0.9  # BF, attention above which the first token looks up, 1 is never
softmax_scale = 1000.0  # TS, sharpness of the ranking: 1000 takes the best, 0.01 the average
residual_fraction = 0.1  # RF, share of its own value that a token keeps (methods 2 and 3)
memory_select = 'last'  # who picks: 'last', the newest for all (the write-up), or 'each' for itself (fast)
memory_positions = ''  # rotary models, methods 4 and 5: 'far' ('' of 4), 'own' or 'insert' ('' of 5)
memory_distance = 512  # tokens before the query, for 'far'
index_heads = ()  # method 5: ((layer, query head), ...) that find a text, see config/find_index_heads.py
recall_texts = 1  # method 5: so many of the best texts are read
recall_votes = 40  # so many texts a token of the question can vote for
recall_threshold = 0.0  # evidence per token, some nats, below which nothing is recalled; 0 always recalls
recall_every = 0  # recalls anew every so many tokens, 0 is never
recall_candidates = 1  # where no text leads clearly, so many of the best are read to choose from
recall_neighbours = 0  # a window of a longer text is read with so many before and after it
memory_index = ''  # method 5: '' votes exactly, or an approximate index of FAISS, such as 'IVF1024,Flat'
bookkeeping_tokens = 1  # positions of each text that a new memory leaves out
drop_half = False  # past block_size half of the context goes at once: fast; else a token a step, as nanoGPT
trace = False  # list the look-ups of the first step: the write-up's Table 2
page = ''  # an HTML file that shows what the first sample drew from the memory, e.g. 'out/page.html'
trace_file = ''  # the same as numbers, a JSON file whose schema page/README.md has
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'float32'  # or 'bfloat16'; 'int8', 'int4': the weights alone, on a CPU
compile = False  # torch.compile, on a GPU
threads = 0  # of torch, 0 is its own choice
# -----------------------------------------------------------------------------
config = configure(globals())

import sys  # noqa: E402, settings are checked before the slow imports
import textwrap  # noqa: E402
import time  # noqa: E402

from core.cache import Cache  # noqa: E402
from core.chat import chat_turn  # noqa: E402
from core.checks import check_least  # noqa: E402
from core.generation import before_end  # noqa: E402
from core.texts import in_front, read_text  # noqa: E402
from load import encode_tensor, load_model, open_memory, prompt_ids, seed_list, use_threads  # noqa: E402
from page.files import check_file, json_of, page_of, write_told  # noqa: E402
from page.trace import trace_of  # noqa: E402


def check_settings():
    check_least('num_samples', num_samples, 1)
    check_least('max_new_tokens', max_new_tokens, 1)
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}, expected 1 or more, or 0 for the whole vocabulary")
    if system and not chat:
        raise ValueError("system is given, but chat is False: add --chat=True, or leave system out")
    for name, path in (('page', page), ('trace_file', trace_file)):
        check_file(name, path)
        if path and not (memory_file or memory_text):
            raise ValueError(f"{name} is {path!r}, but there is no memory: give memory_file or memory_text")


def write(model, tokenizer, idx, seeds, question=None):
    """-> the texts, one per seed, of a chat without the prompt; their rows of ids, and the seconds that they
    took.

    question: the tokens of the prompt that vote, by method 5.
    """
    end_ids, started = ends_of(tokenizer), time.perf_counter()
    prompts, T = idx.expand(len(seeds), -1), idx.size(1)
    rows = model.generate(prompts, max_new_tokens, temperature, top_k or None, seeds, end_ids, question,
                          drop_half=drop_half)
    seconds = time.perf_counter() - started
    shown = [row[:T * (not chat)] + before_end(row[T:], end_ids) for row in rows.tolist()]
    return [tokenizer.decode(row) for row in shown], rows, seconds


def ends_of(tokenizer):
    """The ids that end an answer; the text of a model that knows no chats has no end."""
    return tokenizer.chat.end_ids if tokenizer.chat.template else ()


def write_behind_text(model, tokenizer, memory, prompt, seeds):
    """-> [(label, texts)] of the plain model with the remembered text in front of the prompt, which is not
    shown.

    It tells a bad memory from a weak model: what this does not recall, no memory will. [] where the text
    is unknown or does not fit, with the reason on stderr.
    """
    texts = [entry['text'] for entry in memory.held.live_texts]
    longer = in_front('\n'.join(texts), prompt)
    needed = len(prompt_ids(tokenizer, longer, chat, read_text(system))) + max_new_tokens
    context = model.config.block_size
    if not all(texts) or needed > context:  # beyond its context the model would lose the text from the left
        why = (f"text, prompt and max_new_tokens take {needed} tokens, the model's context is {context}"
               if all(texts) else "the memory does not hold its text")
        print(f"no text in the prompt beside the memory: {why}", file=sys.stderr)
        return []
    idx = encode_tensor(tokenizer, longer, model, chat, read_text(system))
    hidden, shown = len(tokenizer.decode(idx[0].tolist())), prompt
    if chat:  # only the answers come
        hidden, shown = 0, ''
    return [('in prompt', [shown + text[hidden:] for text in write(model, tokenizer, idx, seeds)[0]])]


def write_with_memory(model, tokenizer, memory, idx, seeds, question):
    """-> the texts, a line on the work, and the trace of the first where a file of it is wanted."""
    first, records = first_step(model, idx)
    if trace and first:
        show_trace(records, memory, tokenizer, idx)
    texts, rows, seconds = write(model, tokenizer, idx, seeds, question)
    T, recalled = idx.size(1), model.recalled[0] if model.recalled else ()
    work = describe_work(model, first, T, len(seeds), rows.size(1) - T, seconds)
    if memory_method == 5 and len(memory):
        show_recalled(recalled, memory)
        say_other_header(model, tokenizer, memory, idx)
    if first == 0 and memory_method != 5:
        when = "in the first step" if sum(model.searches.values()) else "at all, the memory was not read"
        print(f"no token-head looked up {when}: lower bookkeeping_fraction, or raise memory_fraction",
              file=sys.stderr)
    traced = {}
    if (page or trace_file) and len(memory):
        end = T + 1 + len(before_end(rows[0, T:].tolist(), ends_of(tokenizer)))  # its end token as well
        traced = trace_of(model, tokenizer, rows[:1, :end], T, question, recalled, max_new_tokens,
                          drop_half)
    return texts, work, traced


def show_recalled(recalled, memory):
    """Which texts, with what votes, at which step; of the first sample."""
    for step, numbers, votes in recalled:
        found = [f"text {number} {memory.texts[number]['source']} ({vote:.1f} votes): "
                 + textwrap.shorten(memory.texts[number]['text'], 70, placeholder=' ...')
                 for number, vote in zip(numbers, votes)]
        print(f"recalled at step {step}: {'; '.join(found) or 'nothing, it writes as without a memory'}")


def say_other_header(model, tokenizer, memory, idx):
    """A line on stderr where the prompt does not begin with what the texts were written behind."""
    shared = model.recaller.header_of(idx)
    if shared < len(memory.header):
        behind, begins = (tokenizer.decode(list(ids)) for ids in (memory.header, idx[0, :20].tolist()))
        print(f"note: the texts were written behind {behind!r}, the prompt begins with {begins!r}: texts are "
              "read best behind what they share, give the same chat, system and memory_prefix",
              file=sys.stderr)


def describe_run(model, memory):
    c, wte = model.config, model.transformer.wte.weight
    print(f"model   {c.name}: {c.n_layer} layers, {c.n_head} heads, {model.get_num_params():,} parameters, "
          f"{model.state.rounded or wte.dtype} on {wte.device}".replace('torch.', ''))
    if memory is None:
        print("memory  none (give memory_file or memory_text)")
        return
    count = len(memory.held.live_texts)
    texts, layers = f"{count} text{'s' * (count != 1)}", ', '.join(map(str, memory.layers))
    kept = f"layers {layers}" if layers else f"keys of {len(memory.index_heads)} index heads"
    print(f"memory  {memory_file or 'of this run'}: {len(memory)} tokens of {texts}, {kept}, "
          f"{memory.held.nbytes / 1e6:.2f} MB")
    if memory_method == 5:
        describe_recall(model, memory)
        return
    picks = (f", MF {memory_fraction:g}, BF {bookkeeping_fraction:g}, RF {residual_fraction:g}, "
             f"select {memory_select!r}")
    print(f"reading in layers {', '.join(map(str, memory_layers))}: method {memory_method}, k {memory_k}, "
          f"TS {softmax_scale:g}" + picks * (memory_method != 4))
    if memory_method == 4 and softmax_scale > 10:
        print("note: under method 4 softmax_scale multiplies attention scores themselves, 1 is neutral")
    if memory_method == 4 and memory_positions == 'insert' and memory_k < len(memory):
        print(f"each row reads the best {memory_k} of {len(memory)} remembered tokens, less than the text in "
              f"the prompt: --memory_k={len(memory)} reads all", file=sys.stderr)


def describe_recall(model, memory):
    heads = ', '.join(f'{layer}:{head}' for layer, head in index_heads)
    print(f"recalling {recall_texts} of {len(memory.held.live_texts)} by heads {heads}: method 5, threshold "
          f"{recall_threshold:g}, positions {model.recaller.where or 'own'!r}")
    if 0 < len(memory_layers) < model.config.n_layer:
        print(f"note: method 5 reads in layers {', '.join(map(str, memory_layers))} alone, memory_layers=() "
              "is all", file=sys.stderr)


def show(seeds, columns):
    """columns: [(label, texts)], a text for each seed."""
    width = max(len(label) for label, _ in columns)
    for i, seed in enumerate(seeds):
        print(f"\nseed {seed}")
        for label, texts in columns:
            first, *rest = texts[i].strip('\n').split('\n')
            print(f'{label:>{width}}    {first}')
            for line in rest:
                print(textwrap.indent(line, ' ' * (width + 4)))


def describe_work(model, first, T, n, steps, seconds):
    """One line: how fast, and how many of all token-heads were looked up, `first` in the first step."""
    c, empty = model.config, Cache(model.config.block_size, drop_half=drop_half)
    lengths = [T + i - empty.left(T + i) for i in range(steps)]
    heads = c.n_layer * c.n_head
    found = sum(model.searches.values()) / (n * steps)
    mean = heads * sum(lengths) / steps
    return (f"{n * steps / seconds:.0f} tokens/s with memory, searched {first} of {heads * T} "
            f"token-heads in the first step, {found:.1f} of {mean:.0f} token-heads per step over all")


def first_step(model, idx):
    """-> how many look-ups the prompt (1, T) makes, and the records of them where they are to be listed."""
    cache = Cache(idx.size(1), trace=trace)
    model(idx, cache=cache)
    return sum(cache.searches.values()), cache.trace or []


def show_trace(records, memory, tokenizer, idx):
    """The write-up's Table 2: who looked up, its attention (Eq. 1), and the five best of what it found."""
    if memory_method == 4:  # every token looks up, but the newest decides what comes next
        records = [record for record in records if record['j'] == idx.size(1) - 1]

    def name(i):
        return repr(tokenizer.decode([i])) if i >= 0 else '?'

    metric = 'TS q.k / sqrt(hs)' if memory_method == 4 else 'squared distances'
    print(f"\n{'layer':>5} {'head':>4} {'index':>5} {'token':<14} {'Eq. 1':>6}  {'memory rows':<24} "
          f"{metric:<30} {'Eq. 5':<30} tokens")
    for r in records:
        best = [(i, d, s) for i, d, s in zip(r['ids'], r['distances'], r['ranks']) if i >= 0][:5]
        columns = zip(zip(*best), ('d', '.1f', '.3f'))
        rows, distances, ranks = (' '.join(f'{x:{kind}}' for x in column) for column, kind in columns)
        token = name(idx[0, r['j']].item())
        tokens = ' '.join(name(memory.tokens[i].item()) for i, *_ in best)
        print(f"{r['layer']:5} {r['h']:4} {r['j']:5} {token:<14} {r['attention']:6.4f}  {rows:<24} "
              f"{distances:<30} {ranks:<30} {tokens}")


def write_files(traced):
    """The page, and the trace alone."""
    for path, name, made in ((trace_file, 'trace', json_of), (page, 'page', page_of)):
        if path:
            write_told(path, name, made, traced)


def main():
    check_settings()
    use_threads(threads)
    all_seeds, prompt = list(seeds) or seed_list(seed, num_samples), read_text(start)
    model, tokenizer = load_model(init_from, out_dir, device, dtype, compile)
    idx = encode_tensor(tokenizer, prompt, model, chat, read_text(system))
    memory = open_memory(model, tokenizer, config)
    describe_run(model, memory)
    if chat:
        print(f"user    {textwrap.shorten(prompt, 100, placeholder=' ...')}")
    columns, work, plain = [], [], ''
    with model.plain():
        model(idx)  # the first pass of a process sets torch up, which no rate below is to pay for
        if compare_plain or memory is None:
            texts, rows, seconds = write(model, tokenizer, idx, all_seeds)
            columns.append(('plain', texts))
            new = rows[:, idx.size(1):]
            plain = tokenizer.decode(before_end(new[0].tolist(), ends_of(tokenizer)))
            work.append(f"{new.numel() / seconds:.0f} tokens/s plain")
        if compare_prompt and memory is not None:
            columns += write_behind_text(model, tokenizer, memory, prompt, all_seeds)
    if memory is not None:
        turn = chat_turn(tokenizer, prompt, read_text(system)) if chat else None
        texts, line, traced = write_with_memory(model, tokenizer, memory, idx, all_seeds, turn and turn[1:])
        columns.append((method_text, texts))
        work.append(line)
    show(all_seeds, columns)
    print(f"\n{', '.join(work)}")
    if memory is not None:
        write_files(traced and {**traced, 'seed': all_seeds[0], 'plain': plain})


if __name__ == '__main__':
    with one_line_errors():
        main()
