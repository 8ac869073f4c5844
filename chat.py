"""
A chat that remembers: what is said goes into a memory, and comes back when it is meant, in this talk or in a
later one. Through a pipe each line is a turn, and gets a line; one that cannot be done is an error on stderr,
the talk goes on, and the exit code is 1 at its end.

$ python chat.py
$ python chat.py --memory_file=memories/mine
$ python chat.py --serve=True
$ printf "My sister Lena lives in Oporto.\\nWhere does my sister live?\\n" | python chat.py --memory_file=
"""
from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
init_from = 'smollm2'  # a model with a chat template: a hub name, a folder, a .gguf file, or 'smollm2'
out_dir = 'out'
memory_file = 'memories/chat'  # a library, a folder; the talk goes on where it was; '' is for this run only
system = ''  # what the system says first, or 'FILE:path'; '' leaves it to the template
context_turns = 1  # so many of the last exchanges stand in the prompt; a small model copies its own replies
max_new_tokens = 200  # of a reply
temperature = 0.3
top_k = 200  # draw from the k likeliest tokens only, 0 is all
seed = 1337  # of each reply
index_heads = ()  # that find a text, for a new memory; () is those of config/index_heads_<init_from>.py
recall_texts = 1  # so many of the best texts are read
recall_votes = 20  # so many texts a token of the question can vote for
recall_candidates = 5  # where none leads clearly, so many of the best are read beside the question to choose
recall_threshold = 1.5  # evidence per token, some nats, below which nothing is recalled; 0 always recalls
memory_distance = 512  # tokens before the query, where texts seem to stand when they are searched
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'float32'  # or 'bfloat16'; 'int8', 'int4': the weights alone, on a CPU
threads = 0  # of torch, 0 is its own choice
serve = False  # as a page for the browser and for OpenAI's clients; each session's memory beside memory_file
serve_host = '127.0.0.1'  # an address that others reach wants a serve_token
serve_port = 8000  # 0 is any that is free
serve_token = ''  # what clients then send as their API key
# -----------------------------------------------------------------------------
config = configure(globals(), written=('memory_file',))

import os  # noqa: E402, settings are checked before the slow imports
import runpy  # noqa: E402
import sys  # noqa: E402

from core.chat import header_ids  # noqa: E402
from core.checks import check_least, check_range  # noqa: E402
from core.generation import check_writing  # noqa: E402
from core.places import found  # noqa: E402
from core.sampling import check_seeds  # noqa: E402
from core.texts import read_text  # noqa: E402
from load import load_model, use_threads  # noqa: E402
from reader import Reading  # noqa: E402
from talk.talk import Style, Talk, open_memory  # noqa: E402
from talk.terminal import talk_in_terminal, talk_through_pipe  # noqa: E402


def check_settings():
    for name, lowest in (('max_new_tokens', 1), ('context_turns', 0), ('top_k', 0), ('memory_distance', 0)):
        check_least(name, config[name], lowest)
    check_writing(max_new_tokens, temperature, top_k or None)
    check_seeds([seed])
    check_range('serve_port', serve_port, 65535)
    reading_by(((0, 0),))  # whose numbers are checked; the heads are the memory's


def reading_by(index_heads):
    return Reading(layers=(), method=5, index_heads=index_heads, recall_texts=recall_texts,
                   recall_votes=recall_votes, recall_candidates=recall_candidates,
                   recall_threshold=recall_threshold, distance=memory_distance)


def heads_of_model():
    """Those of the settings, else those that were found for this model; () where none are known."""
    known = found(f'config/index_heads_{init_from}.py')
    return index_heads or (runpy.run_path(known)['index_heads'] if os.path.isfile(known) else ())


def begin_talk(model, tokenizer, folder, style):
    """The talk whose memory is in a folder, '' is nowhere."""
    memory = open_memory(folder, model, tokenizer, heads_of_model())
    return Talk(model, tokenizer, memory, style, reading_by(memory.index_heads))


def make_folder(folder):
    """Now: that it cannot be is said before anything else is."""
    if folder:
        os.makedirs(folder, exist_ok=True)


def serve_talks(model, tokenizer, style):
    from talk import server  # what only a server needs
    root, session = os.path.split(os.path.normpath(memory_file) if memory_file else '')
    make_folder(root)

    def begin(session, style):
        return begin_talk(model, tokenizer, os.path.join(root, session) if memory_file else '', style)

    name = os.path.basename(os.path.normpath(init_from))
    serving = server.Serving(begin, name, session or 'chat', style, model.config.block_size,
                             server.Limits(token=serve_token))
    server.serve(serving, serve_host, serve_port)


def main():
    check_settings()
    use_threads(threads)
    model, tokenizer = load_model(init_from, out_dir, device, dtype)
    style = Style(read_text(system), context_turns, max_new_tokens, temperature, top_k, seed)
    header_ids(tokenizer, style.system)  # a model without a template has no use for another memory_file
    if max_new_tokens >= model.config.block_size:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, but the model's context is "
                         f"{model.config.block_size} tokens: give fewer")
    if serve:
        serve_talks(model, tokenizer, style)
        return
    talk = begin_talk(model, tokenizer, memory_file, style)
    make_folder(memory_file)
    if sys.stdin is None or not sys.stdin.isatty():  # None: the shell has closed it
        if not talk_through_pipe(talk, sys.stdin or ()):
            raise SystemExit(1)
        return
    count = len(talk.memory.held.live_texts)
    print(f"memory  {memory_file or 'of this run'}: {count} text{'s' * (count != 1)}")
    talk_in_terminal(talk)


if __name__ == '__main__':
    with one_line_errors('what was said is remembered, start again to go on'):
        main()
