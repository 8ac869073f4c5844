"""
Conditions: how a remembered text reaches the model.

'memory'; 'plain', not at all; 'prompt', in front of the prompt; 'unrelated', 'neutral' and 'opposite', a
memory of another text in its place; 'steering', as a direction added to the residual stream (activation
addition, Turner et al. 2023, of mean differences as in repeng).
"""
import contextlib
import dataclasses
from dataclasses import dataclass

import torch

from core.texts import in_front
from core.tokenizers import encode_tensor
from load import load_memory
from memory import PersistentMemory, describe
from reader import Reading

CONDITIONS = {'plain': 'plain model', 'prompt': 'text in the prompt', 'memory': 'memory',
              'unrelated': 'memory of an unrelated text', 'neutral': 'memory of a neutral text',
              'opposite': 'memory of the opposite text', 'steering': 'steering vector'}
OF_MANY_TEXTS = {'plain': CONDITIONS['plain'], 'prompt': 'right text in the prompt',
                 'bm25': "BM25's text in the prompt", 'right': 'right text from memory',
                 'memory': 'text that the model chooses'}  # see many_texts.py
OF_A_TALK = {'plain': 'last exchanges alone', 'whole': 'whole talk, as far as it fits',
             'prompt': 'fact in the same turn', 'alone': 'fact and question alone', 'memory': 'memory'}
OTHER_TEXTS = ('unrelated', 'neutral', 'opposite')  # remembered in the text's place
READING = ('memory', *OTHER_TEXTS)  # conditions in which a memory is read


@dataclass(frozen=True)
class Condition:
    """
    how: a name of CONDITIONS. start: the prompt, with `chat` a user's turn, after one of `system`. text:
    what 'memory', 'prompt' and 'steering' are of. other: the text that one of OTHER_TEXTS remembers in its
    place, and that steering leads away from. memory_file: what 'memory' reads, '' remembers `text` on
    the spot. reading, bookkeeping_tokens: how a memory is read and written, of a condition that reads.
    """
    how: str
    start: str
    text: str
    other: str = ''
    memory_file: str = ''
    reading: Reading = Reading()
    bookkeeping_tokens: int = 1
    steering_layer: int = 0
    steering_scale: float = 0.0
    chat: bool = False
    system: str = ''


def text_before(condition):
    """What stands in front of the prompt."""
    return f'\n{condition.text}' if condition.how == 'prompt' else ''


def prompt_of(model, tokenizer, condition):
    """The prompt that the model is given, (1, T)."""
    if condition.how == 'prompt':
        condition = dataclasses.replace(condition, start=in_front(condition.text, condition.start))
    return start_of(model, tokenizer, condition)


def start_of(model, tokenizer, condition):
    """The prompt without a text in front of it, (1, T)."""
    return encode_tensor(tokenizer, condition.start, model, condition.chat, condition.system)


@contextlib.contextmanager
def under(model, tokenizer, condition):
    """Within it the model is as the condition wants it; what the prompt then is, prompt_of says."""
    memory, vector = memory_of(model, tokenizer, condition), None
    if condition.how == 'steering':
        vector = steering_vector(model, tokenizer, condition)
    with reading_memory(model, memory, condition.reading), steered(model, condition.steering_layer, vector):
        yield


# ---- memories ----

def memory_of(model, tokenizer, condition):
    """What the condition lets the model read; None for one that reads nothing."""
    if condition.how not in READING:
        return None
    if condition.how == 'memory' and condition.memory_file:
        return load_memory(condition.memory_file, '', model, tokenizer, condition.reading.layers)
    text = condition.text if condition.how == 'memory' else condition.other
    return remember(model, tokenizer, [text], condition.reading, condition.bookkeeping_tokens)


def remember(model, tokenizer, texts, reading, bookkeeping_tokens):
    """A memory of texts, each on its own, with what `reading` reads of it."""
    layers = reading.layers or range(model.config.n_layer)  # () is all, of method 5
    index_heads = reading.index_heads if reading.method == 5 else ()
    memory = PersistentMemory(describe(model), layers, bookkeeping_tokens, tokenizer.name, index_heads)
    for text in texts:
        memory.add_text(model, text, tokenizer)
    return memory


@contextlib.contextmanager
def reading_memory(model, memory, reading):
    """Within it the model reads `memory`; None is nothing."""
    try:
        if memory is not None:
            model.attach(memory, reading)
        yield
    finally:
        model.detach_memory()


# ---- steering ----

def steering_vector(model, tokenizer, condition):
    """steering_scale times the mean residual of the text less the other's, after steering_layer: (C,)."""
    layer, layers = condition.steering_layer, model.config.n_layer
    if not 0 <= layer < layers:
        raise ValueError(f"steering_layer is {layer}, the model's layers are 0 to {layers - 1}")
    means = [mean_residual(model, encode_tensor(tokenizer, '\n' + text.strip(), model), layer)
             for text in (condition.text, condition.other)]
    return condition.steering_scale * (means[0] - means[1])


def mean_residual(model, idx, layer):
    """Of the residual stream after a layer, over all tokens but the bookkeeping one: (C,)."""
    seen = []
    with torch.no_grad(), hooked(model, layer, lambda block, inputs, x: seen.append(x)):
        model.hidden(idx)
    return seen[0][0, 1:].mean(0)


def steered(model, layer, vector):
    """Within it `vector` (C,) is added to the residual stream after a layer; None is nothing."""
    if vector is None:
        return contextlib.nullcontext()
    return hooked(model, layer, lambda block, inputs, x: x + vector)


@contextlib.contextmanager
def hooked(model, layer, hook):
    """Within it `hook` sees, and can replace, what the layer's block gives."""
    handle = model.transformer.h[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
