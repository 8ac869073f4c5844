"""
The damage that a condition does: the loss of documents on other subjects.
"""
import contextlib
import dataclasses
import random
from dataclasses import dataclass

from data.tinyworld import grammar
from lab.scores import losses

FEWEST_TOKENS = 32  # of a held-out document, for its perplexity to say something
FIRST_UNSEEN = 10**9 + 10**6  # of the grammar's documents: training's and validation's end before it


@dataclass(frozen=True)
class HeldOut:
    """`count` documents: paragraphs of `text`, or where that is '' of the grammar, drawn with `seed`."""
    count: int
    seed: int
    text: str = ''


def damage(model, tokenizer, held_out, prefix, about):
    """Nats and tokens of each held-out document, after the text `prefix`, with the memory that is attached.

    Each token picks for itself. Every condition is given the same documents, so short that the text `about`
    fits before them.
    """
    room = model.config.block_size - len(tokenizer.encode('\n' + about))
    if room < FEWEST_TOKENS:
        raise ValueError(f"the remembered text leaves {room} tokens of the context for held-out text: "
                         f"shorten it, {FEWEST_TOKENS} are needed")
    before = tokenizer.encode(prefix) if prefix else []
    texts = [tokenizer.encode(text)[:room] for text in held_out_texts(held_out, about)]
    with each_picks(model):
        counted = losses(model, [before + ids for ids in texts], skip=len(before) + 1)
    return {'nats': [nats for nats, _ in counted], 'tokens': [len(ids) - 1 for ids in texts]}


@contextlib.contextmanager
def each_picks(model):
    """Within it each token picks for itself, whatever memory_select is.

    Under 'last' a document has no one perplexity: its last row would change the loss of all before it.
    """
    before = model.readers
    try:
        for reader in list(before.values())[:1]:  # all layers read one memory in one way
            model.attach(reader.memory, dataclasses.replace(reader.reading, select='each'))
        yield
    finally:
        model.readers = before


def held_out_texts(held_out, about):
    """The documents, those of the grammar on other subjects than the text `about`."""
    if not held_out.text:
        return documents_on_others(held_out, subjects_of(about))
    paragraphs = [paragraph.strip() for paragraph in held_out.text.split('\n\n') if paragraph.strip()]
    return ['\n' + paragraph for paragraph in paragraphs[:held_out.count]]


def subjects_of(text):
    """The grammar's subjects that a text names; of another text, its capitalised words."""
    named = words(' '.join(word for word in text.split() if word[:1].isupper()))
    return {word for word in named if word in grammar.SUBJECTS} or named - {'the', 'in', 'is'}


def documents_on_others(held_out, subjects):
    found, tried = [], 0
    while len(found) < held_out.count:
        if tried > 1000 * held_out.count:
            raise ValueError("the grammar writes too little on other subjects than the remembered text's: "
                             "give held_out_text")
        text = grammar.document(random.Random(f"{held_out.seed} {FIRST_UNSEEN + tried}"))
        tried += 1
        if subjects.isdisjoint(words(text)):
            found.append(text)
    return found


def words(text):
    return {word.strip('.,').lower() for word in text.split()}
