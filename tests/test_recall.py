"""
Method 5: votes by hand, a recalled text that is the text in the prompt, abstaining, batches, tokens alone.

$ python -m pytest tests/test_recall.py
"""
import math
import random

import pytest
import torch
from conftest import tiny_model
from test_rotary import FAMILIES, slow_turn, tiny_family

from core.approximate import Approximate
from core.cache import Cache
from core.origin import describe
from core.votes import best_of_found
from memory import PersistentMemory

HEADER = [3, 17]
TEXTS = [[random.Random(n).randrange(48) for _ in range(length)] for n, length in enumerate((9, 4, 7, 9, 12))]
QUESTION = [30, 8, 41, 5, 22]
PROMPT = HEADER + QUESTION
HEADS = (0, 1), (1, 3)


def library(model, texts=TEXTS, keep='values', index_heads=HEADS, layers=(0, 1, 2)):
    layers = layers if keep == 'values' else ()
    memory = PersistentMemory(describe(model), layers, len(HEADER), '', index_heads, keep)
    for text in texts:
        memory.add(model, HEADER + text)
    return memory


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny_family(request.param)


@pytest.fixture
def llama():
    return tiny_family('llama')


def attach(model, memory, **settings):
    model.attach_memory(memory, **{'method': 5, 'index_heads': HEADS, 'distance': 20, **settings})


# ---- vote ----

def slow_votes(model, memory, prompt, floor_of, told_by=range(5)):
    """With loops, and rotations of another make. told_by: the texts that tell the floor; of fewer texts than
    floor_of the header does."""
    with torch.no_grad():
        heads = model.heads_of(torch.tensor([prompt]), (0, 1))
        header = model.heads_of(torch.tensor([HEADER]), (0, 1))
    votes, group = [0.0] * len(memory.texts), model.config.n_head // model.config.n_kv_head
    for layer, head in HEADS:
        for t in range(len(HEADER), len(prompt)):
            query = slow_turn(heads[layer][0][0, head, t][None], [20], model.config)[0]
            best, row = [], 0
            for text in memory.texts:
                keys = memory.keys[layer][head // group, row:row + text['rows']]
                best.append(max((query @ key).item() / math.sqrt(len(key)) for key in keys))
                row += text['rows']
            if len(best) < floor_of:
                keys = header[layer][1][0, head // group, 1:]
                floor = max((query @ key).item() / math.sqrt(len(key)) for key in keys)
            else:
                floor = sorted(best[n] for n in told_by)[-min(floor_of, len(best))]
            votes = [vote + max(0, b - floor) for vote, b in zip(votes, best)]
    return votes


@pytest.mark.parametrize('floor_of', (2, 5, 6, 40))
def test_votes_are_those_of_loops_over_tokens_heads_and_rows(model, floor_of):
    memory = library(model)
    attach(model, memory, recall_votes=floor_of)
    found, voters = model.recaller.votes(model, torch.tensor([PROMPT]), memory.held)
    assert found[0].tolist() == pytest.approx(slow_votes(model, memory, PROMPT, floor_of), abs=1e-4)
    assert voters == len(QUESTION) * len(HEADS)


def test_of_a_large_memory_a_share_of_all_texts_can_get_votes(llama, monkeypatch):
    memory = library(llama)
    monkeypatch.setattr('recall.SHARE_VOTED_FOR', 0.8)  # of five texts four
    attach(llama, memory, recall_votes=2)
    votes, _ = llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)
    assert votes[0].tolist() == pytest.approx(slow_votes(llama, memory, PROMPT, 4), abs=1e-4)
    attach(llama, memory, recall_votes=2, index='Flat')  # which names all five, so that the exact floor holds
    assert llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)[0].allclose(votes)
    monkeypatch.setattr('recall.SAMPLED', 2)  # of which two of the five's best four are, about
    sampled = llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)[0]
    drawn = torch.randperm(5, generator=torch.Generator().manual_seed(0))[:2].tolist()
    told = slow_votes(llama, memory, PROMPT, 2, drawn)
    assert sampled[0].tolist() == pytest.approx(told, abs=1e-4)
    monkeypatch.setattr('recall.CANDIDATES', 3)
    few = llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held)[0]
    assert few.count_nonzero() == 3 and few.where(few > 0, sampled).allclose(sampled)


def test_the_best_text_is_recalled_and_told_with_its_votes(llama):
    memory = library(llama)
    attach(llama, memory, recall_texts=2)
    llama.generate(torch.tensor([PROMPT]), 3, top_k=1)
    votes = slow_votes(llama, memory, PROMPT, 40)
    best = sorted(range(5), key=lambda n: -round(votes[n], 2))[:2]
    [[(step, numbers, told)]] = llama.recalled
    assert (step, list(numbers)) == (0, best)
    assert told == pytest.approx([votes[n] for n in best], abs=1e-4)
    assert llama.searches == {0: len(QUESTION), 1: len(QUESTION)}


def test_votes_do_not_depend_on_how_many_rows_are_scored_at_once(llama, monkeypatch):
    memory, prompts = library(llama), torch.tensor([PROMPT, HEADER + [1, 2, 3, 4, 5]])
    attach(llama, memory)
    whole, _ = llama.recaller.votes(llama, prompts, memory.held)
    monkeypatch.setattr('core.votes.SCORES_A_BLOCK', 100)
    assert torch.allclose(llama.recaller.votes(llama, prompts, memory.held)[0], whole, atol=1e-5)


def test_only_the_tokens_of_the_question_vote(llama):
    memory = library(llama)
    attach(llama, memory)
    some, voters = llama.recaller.votes(llama, torch.tensor([PROMPT]), memory.held, (3, 5))
    longer, _ = llama.recaller.votes(llama, torch.tensor([PROMPT + [9, 9]]), memory.held, (3, 5))
    assert voters == 4
    assert torch.allclose(some, longer, atol=1e-5)
    for wrong in ((5, 5), (0, 8), (-1, 3)):
        with pytest.raises(ValueError, match='expected .first, end. of 1 to 7 tokens'):
            llama.generate(torch.tensor([PROMPT]), 1, question=wrong)


# ---- read ----

@pytest.mark.parametrize('keep', ('values', 'tokens'))
def test_a_recalled_text_is_the_text_in_the_prompt(model, keep):
    memory = library(model, keep=keep)
    idx = torch.tensor([PROMPT])
    attach(model, memory)
    logits, _ = model(idx, targets=idx)
    [[(_, (number,), _)]] = model.recalled
    y = model.generate(idx, 6, top_k=1)
    model.detach_memory()
    behind = torch.tensor([HEADER + TEXTS[number] + QUESTION])
    expected, _ = model(behind, targets=behind)
    assert torch.allclose(logits[:, len(HEADER):], expected[:, -len(QUESTION):], atol=1e-4)
    header, _ = model(idx[:, :len(HEADER)], targets=idx[:, :len(HEADER)])
    assert torch.allclose(logits[:, :len(HEADER)], header, atol=1e-4)  # which does not see the text
    assert y[0, len(PROMPT):].tolist() == model.generate(behind, 6, top_k=1)[0, behind.size(1):].tolist()


def test_a_prompt_with_another_beginning_reads_the_text_in_front_of_everything(llama):
    memory = library(llama)
    attach(llama, memory)
    prompt = torch.tensor([[9, *QUESTION]])
    logits, _ = llama(prompt)
    [[(_, (number,), _)]] = llama.recalled
    llama.detach_memory()
    both = torch.tensor([HEADER + TEXTS[number] + prompt[0].tolist()])
    kept = llama.heads_of(both[:, :len(HEADER) + len(TEXTS[number])], range(3))
    cache = Cache(6)
    cache.readers = {}
    for layer in range(3):
        n = len(TEXTS[number])
        keys = slow_turn_all(kept[layer][1][0, :, len(HEADER):], range(-n, 0), llama.config)
        cache.front[layer, 'kv'] = torch.cat((keys, kept[layer][2][0, :, len(HEADER):]))[None]
    assert torch.allclose(llama.lm_head(llama.hidden(prompt, cache, newest=1)), logits, atol=1e-4)


def slow_turn_all(keys, places, config):
    return torch.stack([slow_turn(head, list(places), config) for head in keys])


def test_several_texts_stand_side_by_side_behind_a_header_before_the_longest(llama):
    memory = library(llama)
    attach(llama, memory, recall_texts=2)
    logits, _ = llama(torch.tensor([PROMPT]))
    [[(_, numbers, _)]] = llama.recalled
    lengths = [len(TEXTS[n]) for n in numbers]
    llama.detach_memory()
    # the same by hand: a plain model whose cache is laid out so
    header = llama.heads_of(torch.tensor([HEADER]), range(3))
    cache = Cache(len(QUESTION))
    cache.readers, cache.offset = {}, len(HEADER)
    for layer in range(3):
        places = [range(-max(lengths), 2 - max(lengths)), *(range(2 - n, 2) for n in lengths)]
        texts = [llama.heads_of(torch.tensor([HEADER + TEXTS[n]]), (layer,))[layer] for n in numbers]
        parts = [part for _, *part in (header[layer], *texts)]
        parts = [(k[0, :, 2 * (n > 0):], v[0, :, 2 * (n > 0):]) for n, (k, v) in enumerate(parts)]
        keys = [slow_turn_all(k, at, llama.config) for (k, _), at in zip(parts, places)]
        cache.front[layer, 'kv'] = torch.cat((torch.cat(keys, 1), torch.cat([v for _, v in parts], 1)))[None]
    x = llama.hidden(torch.tensor([QUESTION]), cache, newest=1)
    assert torch.allclose(llama.lm_head(x), logits, atol=1e-4)


@pytest.mark.parametrize('positions', ('far', 'own', 'insert'))
def test_writing_step_by_step_equals_the_whole_text_at_once(model, positions):
    memory = library(model)
    attach(model, memory, positions=positions)
    idx = torch.tensor([PROMPT])
    y, recalled = model.generate(idx, 5, top_k=1), model.recalled
    cache = Cache(20)
    logits = [model(idx, cache=cache)[0]]  # recalls for the prompt alone, and goes on with that
    logits += [model(y[:, n:n + 1], cache=cache)[0] for n in range(len(PROMPT), y.size(1) - 1)]
    assert torch.cat(logits, 1).argmax(-1).tolist() == y[:, len(PROMPT):].tolist()
    assert model.recalled == recalled and len(recalled[0]) == 1


def test_far_is_the_far_of_method_4_with_all_rows_of_the_text(model):
    memory = library(model)
    attach(model, memory, positions='far')
    logits, _ = model(torch.tensor([PROMPT]))
    [[(_, (number,), _)]] = model.recalled
    alone = library(model, [TEXTS[number]])
    model.attach_memory(alone, (0, 1, 2), k=100, method=4, softmax_scale=1.0, positions='far', distance=20)
    assert torch.allclose(model(torch.tensor([PROMPT]))[0], logits, atol=1e-4)


def test_own_is_the_own_of_method_4_but_for_the_header(model):
    memory = library(model)
    attach(model, memory, positions='own')
    logits, _ = model(torch.tensor([PROMPT]))
    [[(_, (number,), _)]] = model.recalled
    alone = library(model, [TEXTS[number]])
    model.attach_memory(alone, (2,), k=100, method=4, softmax_scale=1.0, positions='own')
    once = model(torch.tensor([PROMPT]))[0]  # in the last layer the header's rows do not matter to others
    attach(model, memory, positions='own', layers=(2,))
    assert torch.allclose(model(torch.tensor([PROMPT]))[0], once, atol=1e-4)
    assert not torch.allclose(logits, once, atol=1e-2)


def test_learned_positions_read_the_text_where_it_was_written():
    model = tiny_model()
    heads = ((0, 1), (1, 0))
    memory = library(model, index_heads=heads, layers=(2,))
    model.attach_memory(memory, layers=(2,), method=5, index_heads=heads)
    logits, _ = model(torch.tensor([PROMPT]))
    [[(_, (number,), _)]] = model.recalled
    model.attach_memory(library(model, [TEXTS[number]], index_heads=heads), (2,), k=100, method=4,
                        softmax_scale=1.0)
    assert torch.allclose(model(torch.tensor([PROMPT]))[0], logits, atol=1e-4)


# ---- batches ----

@pytest.mark.parametrize('positions', ('far', 'own', 'insert'))
@pytest.mark.parametrize('recall_texts', (1, 2))
def test_a_row_of_a_batch_is_that_row_alone(model, positions, recall_texts):
    memory = library(model)
    rows = [PROMPT, HEADER + [7, 6, 30, 4, 5], HEADER + [40, 2, 33, 14, 25], PROMPT]
    attach(model, memory, positions=positions, recall_texts=recall_texts)
    idx = torch.tensor(rows)
    together, logits = model.generate(idx, 5, seeds=[1, 2, 3, 4]), model(idx)[0]
    recalled = [row[0][1] for row in model.recalled]
    assert len(set(recalled)) > 1  # texts of different lengths
    for b, row in enumerate(rows):
        assert torch.equal(model.generate(torch.tensor([row]), 5, seeds=[b + 1])[0], together[b])
        assert torch.allclose(model(torch.tensor([row]))[0][0], logits[b], atol=1e-4)


def test_many_seeds_of_one_prompt_recall_once(llama, monkeypatch):
    memory = library(llama)
    attach(llama, memory, recall_votes=2)
    alone = [llama.generate(torch.tensor([PROMPT]), 5, seeds=[seed]) for seed in (1, 2, 3)]
    seen = []
    heads_of = llama.heads_of
    monkeypatch.setattr(llama, 'heads_of', lambda idx, layers: seen.append(idx) or heads_of(idx, layers))
    y = llama.generate(torch.tensor([PROMPT] * 3), 5, seeds=[1, 2, 3])
    assert torch.equal(y, torch.cat(alone))
    assert [len(idx) for idx in seen] == [1]


def test_it_is_recalled_anew_every_so_many_tokens(llama):
    memory = library(llama)
    attach(llama, memory, recall_every=2)
    y = llama.generate(torch.tensor([PROMPT]), 5, top_k=1)
    assert [step for step, _, _ in llama.recalled[0]] == [0, 2, 4]
    votes, _ = llama.recaller.votes(llama, y[:, :len(PROMPT) + 4], memory.held, (2, len(PROMPT) + 4))
    assert llama.recalled[0][2][1] == (votes[0].argmax().item(),)
    attach(llama, memory)
    logits = llama(y[:, :len(PROMPT) + 4])[0]
    assert logits[0, 0].argmax() == y[0, len(PROMPT) + 4]


def test_what_is_recalled_and_the_prompt_fit_the_context_or_are_refused(llama):
    memory = library(llama, [[n % 48 for n in range(30)]])
    attach(llama, memory)
    with pytest.raises(ValueError, match='the recalled text has 30 tokens and the prompt 12, the model'):
        llama.generate(torch.tensor([HEADER + list(range(10))]), 3)
    y = llama.generate(torch.tensor([HEADER + list(range(6))]), 30, top_k=1)  # the oldest tokens are cropped
    assert y.shape == (1, 38)


@pytest.mark.parametrize('settings, message', (
    ({'index_heads': ()}, 'index_heads is .., method 5 needs'),
    ({'index_heads': ((2, 0),)}, 'the memory has no keys of index heads ..2, 0.,., but of'),
    ({'index_heads': ((0, 9),)}, 'head 9 does not exist'),
    ({'index_heads': (3,)}, 'expected pairs'),
    ({'recall_texts': 0}, 'recall_texts is 0, expected a whole number from 1 on'),
    ({'recall_votes': 0}, 'recall_votes is 0'),
    ({'recall_every': -1}, 'recall_every is -1'),
    ({'recall_threshold': -1.0}, 'recall_threshold is -1.0'),
    ({'layers': (7,)}, 'layer 7 does not exist'),
))
def test_what_cannot_be_recalled_is_refused(llama, settings, message):
    memory = library(llama)
    with pytest.raises(ValueError, match=message):
        attach(llama, memory, **settings)
    assert llama.recaller is None


def test_a_memory_of_tokens_alone_is_for_method_5(llama):
    with pytest.raises(ValueError, match='keeps tokens, no layer.s rows, which method 5 alone reads'):
        llama.attach_memory(library(llama, keep='tokens'), (1,), method=3)


def test_a_text_that_was_recalled_lately_does_not_run_again(llama, monkeypatch):
    memory = library(llama, keep='tokens')
    attach(llama, memory)
    first = llama.generate(torch.tensor([PROMPT]), 3, top_k=1)
    calls = []
    monkeypatch.setattr('memory.run_again', lambda *given: calls.append(given))
    assert torch.equal(llama.generate(torch.tensor([PROMPT]), 3, top_k=1), first)
    assert not calls


def test_texts_that_ran_together_have_the_rows_of_each_alone(model):
    class Codes:
        name = 'codes'

        def encode(self, text):
            return [ord(c) - 40 for c in text]
    texts = ['some words', 'a', 'more of them, and more', 'some', 'words']
    texts = [text.replace(' ', '+').replace(',', '-').upper() for text in texts]
    together = PersistentMemory.from_texts(model, texts, Codes(), (0, 2), HEADS, prefix='+')
    alone = PersistentMemory.from_texts(model, texts[:1], Codes(), (0, 2), HEADS, prefix='+')
    for text in texts[1:]:
        alone.add_text(model, text, Codes(), prefix='+')
    assert torch.equal(together.tokens, alone.tokens) and together.header == alone.header == (3,)
    for layer in (0, 2):
        assert torch.allclose(together.keys[layer], alone.keys[layer], atol=1e-5)
        assert torch.allclose(together.values[layer], alone.values[layer], atol=1e-5)
    head = HEADS[1][1] // (4 // model.config.n_kv_head)
    index = [memory.index(memory.held, 1, head).float() for memory in (together, alone)]
    assert torch.allclose(*index, atol=1e-5)


# ---- an approximate index ----

def test_an_index_that_looks_through_everything_votes_as_the_exact_one_does(llama, capsys):
    memory, idx = library(llama), torch.tensor([PROMPT])
    attach(llama, memory, recall_votes=5)
    exact, _ = llama.recaller.votes(llama, idx, memory.held)
    attach(llama, memory, recall_votes=5, index='Flat')
    assert torch.allclose(llama.recaller.votes(llama, idx, memory.held)[0], exact, atol=1e-4)
    assert 'index Flat of layer 1, key head 1: finds 1.000 of the ten rows nearest' in capsys.readouterr().err


def test_an_approximate_index_says_how_much_it_finds():
    torch.manual_seed(0)
    keys = torch.randn(4000, 16)
    coarse, whole = Approximate(keys, 'IVF64,Flat'), Approximate(keys, 'Flat')
    assert whole.recall == 1
    exact = (keys[::20] @ keys.T).topk(10).indices.tolist()
    found = coarse.search(keys[::20], 10)[1].tolist()
    share = sum(len({*a} & {*b}) for a, b in zip(exact, found)) / 2000
    assert 0.3 < coarse.recall < 0.99
    assert coarse.recall == pytest.approx(share, abs=0.1)  # of other rows


@pytest.mark.parametrize('factory', ('IVF', 'nonsense', 'IVF4096,Flat'))
def test_an_index_that_cannot_be_made_is_refused_in_one_line(llama, factory):
    attach(llama, library(llama), index=factory)
    with pytest.raises(ValueError, match=f"memory_index is '{factory}', which FAISS cannot make of") as error:
        llama(torch.tensor([PROMPT]))
    assert '\n' not in str(error.value)


def test_rows_that_were_not_found_and_texts_without_any_have_no_vote():
    scores, ids = torch.tensor([[5.0, 3.0, 2.0, -9.0]]), torch.tensor([[0, 3, 1, -1]])
    best = best_of_found(scores, ids, torch.tensor([2, 4, 6]))
    assert best.tolist() == [[5.0, 3.0, 2.0]]


# ---- the best few ----

def test_of_the_best_few_the_one_that_makes_the_question_likeliest_is_recalled(model, monkeypatch):
    memory = library(model)
    attach(model, memory, recall_candidates=3, positions='insert')
    idx, span = torch.tensor([PROMPT]), (len(HEADER), len(PROMPT))
    votes, _ = model.recaller.votes(model, idx, memory.held, span)
    best = votes[0].argsort(descending=True)[:3].tolist()
    values = {}
    for n in best:  # the plain model's, of the text in the prompt; the header does not see the text
        with model.plain():
            whole = torch.tensor([HEADER + TEXTS[n] + QUESTION])
            log_p = model(whole, targets=whole)[0].log_softmax(-1)[0]
            first = model(torch.tensor([HEADER]))[0].log_softmax(-1)[0, 0, QUESTION[0]]
        at = len(HEADER) + len(TEXTS[n])
        later = [log_p[at + i, QUESTION[i + 1]] for i in range(len(QUESTION) - 1)]
        values[n] = (first + sum(later)).item()
    runs = [(), *((n,) for n in best)]
    read = model.recaller.likelihoods(model, idx, span, memory.held, runs)
    assert read[1:] == pytest.approx([values[n] for n in best], abs=1e-3)
    for run, found in zip(runs, read):  # side by side as alone, the header alone too
        alone = model.recaller.likelihoods(model, idx, span, memory.held, [run])
        assert alone == pytest.approx([found], abs=1e-4)
    close = torch.full((1, len(TEXTS)), 1.0).index_fill(1, votes.argmax()[None], 1.1)
    monkeypatch.setattr(model.recaller, 'votes', lambda *given: (close, 4))
    first = [int(close.argmax()), *(n for n in range(len(TEXTS)) if n != close.argmax())][:3]
    likely = model.recaller.likelihoods(model, idx, span, memory.held, [(n,) for n in first])
    worth = {n: own + close[0, n].item() / len(HEADS) for n, own in zip(first, likely)}
    (numbers, own), = model.recaller.recalled(model, idx, memory.held, span)
    expected = max(first, key=worth.get)
    assert (numbers, own) == ((expected,), (close[0, expected].item(),))
    monkeypatch.setattr(model.recaller, 'votes', lambda *given: (close ** 8, 4))  # a clear lead needs no more
    assert model.recaller.recalled(model, idx, memory.held, span)[0][0] == (first[0],)
