"""
Rows that end, and sample.py and evaluate.py with chat=True, on a random model.

$ python -m pytest tests/test_chat_writing.py
"""
import json
import re

import pytest
import torch
from conftest import PROMPT, tiny_model
from lab_settings import records_of
from test_chat import STYLES, save
from test_rotary import tiny_family

from core.chat import chat_prompt
from core.generation import before_end
from core.origin import describe
from lab import grid, runs
from lab.measures import MEASURES
from load import encode_tensor, load_model
from memory import PersistentMemory

SEEDS = [1337, 5, 2, 8]


def rows_of(model, n, end_ids=(), seeds=SEEDS):
    return model.generate(torch.tensor([PROMPT] * len(seeds)), n, 1.0, 20, seeds, end_ids)[:, len(PROMPT):]


def cut_by_hand(rows, end_ids):
    """Rows that went on, as they are where the first of end_ids ends each and fills it up."""
    cut, lengths = [], []
    for row in rows.tolist():
        n = next((n for n, i in enumerate(row) if i in end_ids), len(row))
        cut.append(row[:n] + row[n:n + 1] * (len(row) - n))
        lengths.append(min(n + 1, len(row)))
    return [row[:max(lengths)] for row in cut]


# ---- rows ----

@pytest.mark.parametrize('with_memory', [False, True])
def test_a_row_that_has_ended_is_filled_up_and_its_neighbours_draw_what_they_did(with_memory):
    model = tiny_model()
    if with_memory:
        model.attach_memory(PersistentMemory.from_tokens(model, PROMPT, layers=(1,)), (1,), method=1,
                            memory_fraction=5.0, bookkeeping_fraction=0.0)
    free = rows_of(model, 12)
    ends = [free[0, 3].item()], [free[0, 3].item(), free[1, 6].item()], sorted({*free[:, 4].tolist()})
    for end_ids in ends:
        assert rows_of(model, 12, end_ids).tolist() == cut_by_hand(free, end_ids)
    assert rows_of(model, 12, ends[-1]).size(1) <= 5
    assert rows_of(model, 12, end_ids=()).equal(free)


def test_rows_that_draw_from_torchs_own_generator_end_too():
    model = tiny_model()
    torch.manual_seed(3)
    free = model.generate(torch.tensor([PROMPT] * 3), 8)
    end_ids = [free[1, len(PROMPT) + 2].item()]
    torch.manual_seed(3)
    cut = model.generate(torch.tensor([PROMPT] * 3), 8, end_ids=end_ids)
    assert cut[:, len(PROMPT):].tolist() == cut_by_hand(free[:, len(PROMPT):], end_ids)


def test_nothing_is_computed_once_all_rows_have_ended(monkeypatch):
    model, steps = tiny_model(), []
    newest_logits = model.newest_logits
    monkeypatch.setattr(model, 'newest_logits', lambda *given: steps.append(1) or newest_logits(*given))
    assert rows_of(model, 12, end_ids=range(48)).shape == (4, 1)
    assert len(steps) == 1
    assert rows_of(model, 0, end_ids=range(48)).shape == (4, 0)


def test_an_end_token_of_the_prompt_ends_nothing():
    model = tiny_model()
    free = rows_of(model, 6)
    end_id = next(i for i in PROMPT if i not in free)
    assert rows_of(model, 6, [end_id]).equal(free)


def test_a_row_that_ends_is_the_same_past_the_context():
    model = tiny_model(block_size=16)
    free = rows_of(model, 12)
    assert rows_of(model, 12, [free[0, 8].item()]).tolist() == cut_by_hand(free, [free[0, 8].item()])


@pytest.mark.parametrize(('end_ids', 'message'), [
    ([48], 'end_ids holds 48, outside the vocabulary of 48'), ([3, -1], 'end_ids holds -1'),
    (['</s>'], "expected a whole number"), ([True], 'expected a whole number')])
def test_an_end_that_is_no_token_is_refused(end_ids, message):
    with pytest.raises(ValueError, match=message):
        rows_of(tiny_model(), 2, end_ids)


@pytest.mark.parametrize('recalls', [False, True])
def test_tokens_are_told_as_they_are_drawn_and_telling_changes_none(recalls):
    model, idx, told = tiny_family('llama'), torch.tensor([PROMPT]), []
    if recalls:
        memory = PersistentMemory(describe(model), (0, 1, 2), 1, '', ((1, 0),))
        memory.add(model, PROMPT[::-1])
        model.attach_memory(memory, method=5, index_heads=((1, 0),))
    silent = model.generate(idx, 12, 1.0, 20, [5])
    assert model.generate(idx, 12, 1.0, 20, [5], told=lambda drawn: told.append(drawn.tolist())).equal(silent)
    assert [drawn for [[drawn]] in told] == silent[0, len(PROMPT):].tolist()
    assert not recalls or model.recalled[0][0][1] == (0,)


def test_what_is_told_can_stop_the_writing():
    told = []

    def stop(drawn):
        told.append(drawn)
        if len(told) == 3:
            raise InterruptedError
    with pytest.raises(InterruptedError):
        tiny_model().generate(torch.tensor([PROMPT]), 12, told=stop)
    assert len(told) == 3


def test_what_stands_before_the_end():
    assert before_end([3, 4, 5, 4], (4, 9)) == [3]
    assert before_end([3, 5], (4,)) == before_end([3, 5], ()) == [3, 5]
    assert before_end([4], (4,)) == before_end([], (4,)) == []


# ---- scripts ----

QUESTION = 'il gatto dorme?'
FEW = '--chat=True', f'--start={QUESTION}', '--max_new_tokens=12', '--memory_layers=0,2'
READ = (*FEW, '--memory_text=la luna guarda il tetto', '--memory_method=3', '--memory_fraction=5',
        '--softmax_scale=1')


@pytest.fixture(scope='module')
def instruct(tmp_path_factory):
    """A random model with a template; each of its ends is what it draws after a few tokens."""
    folder = tmp_path_factory.mktemp('instruct')
    tokenizer = save(folder, STYLES['smollm2'])
    tiny_model(vocab_size=len(tokenizer), block_size=128, sharp=8.0).save_pretrained(folder)
    model, tokenizer = load_model(str(folder))
    idx = encode_tensor(tokenizer, QUESTION, model, chat=True)
    drawn = [model.generate(idx, 12, 0.8, 200, [seed])[0, idx.size(1):].tolist() for seed in (1337, 5)]
    (folder / 'generation_config.json').write_text(json.dumps({'eos_token_id': [drawn[0][3], drawn[1][6]]}))
    return str(folder)


def rows_by_hand(folder, prompt, seeds, system='', memory=None):
    """What stands before the end, as ids."""
    model, tokenizer = load_model(folder)
    idx = torch.tensor([tokenizer.encode(chat_prompt(tokenizer, prompt, system))])
    if memory:
        memory = PersistentMemory.from_text(model, memory, tokenizer, (0, 2))
        model.attach_memory(memory, (0, 2), method=3, memory_fraction=5.0, softmax_scale=1.0)
    found = []
    for seed in seeds:
        row = model.generate(idx, 12, 0.8, 200, [seed])[0, idx.size(1):].tolist()
        found.append(row[:next((n for n, i in enumerate(row) if i in tokenizer.chat.end_ids), 12)])
    return found


def answers_by_hand(folder, *given, **more):
    tokenizer = load_model(folder)[1]
    return [tokenizer.decode(row) for row in rows_by_hand(folder, *given, **more)]


def columns_of(out, label):
    """Behind a label, one a seed."""
    begins = r'\n(?= *(?:plain|in prompt|memory) {4})'
    seeds = [seed.rsplit('\n\n', 1)[0] for seed in out.split('\nseed ')[1:]]
    texts = [block for seed in seeds for block in re.split(begins, seed)]
    return [text.strip().removeprefix(label).split() for text in texts if text.strip().startswith(label)]


def test_each_column_shows_the_answer_up_to_its_end(run, instruct):
    arguments = '--seeds=1337,5', '--compare_prompt=True', '--system=la luna'
    code, out, err = run('sample.py', *READ, *arguments, init_from=instruct)
    assert (code, err) == (0, '') and f'user    {QUESTION}' in out
    text = 'la luna guarda il tetto'
    for label, prompt, memory in (('plain', QUESTION, ''), ('memory', QUESTION, text),
                                  ('in prompt', f'{text}\n{QUESTION}', '')):
        by_hand = answers_by_hand(instruct, prompt, (1337, 5), system='la luna', memory=memory)
        assert columns_of(out, label) == [answer.split() for answer in by_hand], label


def test_tokens_a_second_and_look_ups_are_of_the_steps_that_were_computed(run, instruct, monkeypatch):
    clock = iter(range(0, 1000, 2))  # each text takes two seconds
    monkeypatch.setattr('time.perf_counter', lambda: next(clock))
    _, out, _ = run('sample.py', *READ, '--seeds=1337', init_from=instruct)
    plain, memory = (min(12, 1 + len(rows_by_hand(instruct, QUESTION, (1337,), memory=text)[0]))
                     for text in (None, 'la luna guarda il tetto'))
    assert plain == 4 and '\n2 tokens/s plain' in out
    model, tokenizer = load_model(instruct)
    T = encode_tensor(tokenizer, QUESTION, model, chat=True).size(1)
    assert f'of {6 * (T + (memory - 1) / 2):.0f} token-heads per step' in out


def test_an_answer_of_nothing_is_a_label_alone(run, instruct, tmp_path):
    code, out, _ = run('sample.py', '--chat=True', f'--start={QUESTION}', '--num_samples=1', '--top_k=1',
                       '--max_new_tokens=1', init_from=all_end(instruct, tmp_path))
    assert code == 0 and re.search(r'\nseed 1337\nplain +\n', out)


def all_end(instruct, folder):
    """A copy of the model all of whose tokens end a text."""
    model, tokenizer = load_model(instruct)
    save(folder, STYLES['smollm2'])
    model.save_pretrained(folder)
    ends = {'eos_token_id': list(range(tokenizer.n_vocab))}
    (folder / 'generation_config.json').write_text(json.dumps(ends))
    return str(folder)


@pytest.mark.parametrize('script', ['sample.py', 'evaluate.py'])
@pytest.mark.parametrize(('arguments', 'message'), [
    (['--chat=True', '--start=Cats'], 'brings no chat template: take an instruct model, or leave out chat'),
    (['--system=Be brief.', '--start=Cats'], 'system is given, but chat is False: add --chat=True'),
    (['--chat=True', '--start= '], 'template|empty')])
def test_a_chat_that_cannot_be_is_one_line_and_nothing_is_left(run, tmp_path, monkeypatch, script, arguments,
                                                               message):
    monkeypatch.chdir(tmp_path)
    text = '--memory_text=Cats.', '--memory_layers=0'
    code, out, err = run(script, *arguments, *text)
    assert (code, out, err.count('\n')) == (1, '', 1) and re.search(message, err)
    assert not list(tmp_path.iterdir())


def test_help_names_both_settings(run):
    for script in ('sample.py', 'evaluate.py'):
        _, out, _ = run(script, '--help')
        assert '\nchat = False' in out and "\nsystem = ''" in out


# ---- experiments ----

@pytest.mark.parametrize('more', [[], ['--measure=recall', '--answer=la luna', '--substitute=il gatto',
                                       '--substitute_at=()', '--max_new_tokens=12']])
def test_an_experiment_scores_the_answers_up_to_their_end(run, instruct, tmp_path, more):
    shared = '--num_held_out=1', '--held_out_text=il tetto e la luna', '--seeds=1337,5', '--figure='
    code, _, err = run('evaluate.py', *READ, *shared, *more, f'--out_dir={tmp_path}', init_from=instruct)
    assert code == 0, err
    records = {record['settings']['condition']: record for record in records_of(tmp_path / 'evaluate')}
    text = 'il gatto guarda il tetto' if more else 'la luna guarda il tetto'
    assert records['plain']['texts'] == answers_by_hand(instruct, QUESTION, (1337, 5))
    assert records['prompt']['texts'] == answers_by_hand(instruct, f'{text}\n{QUESTION}', (1337, 5))
    assert all(min(record['samples']['perplexity']) >= 1 for record in records.values())


def test_an_answer_in_a_chat_may_begin_with_a_space_that_says_nothing(instruct, defaults, monkeypatch):
    model, tokenizer = load_model(instruct)
    settings = {**defaults, 'chat': True, 'measure': 'recall', 'condition': 'plain', 'start': QUESTION,
                'answer': 'la luna', 'memory_text': 'la luna', 'num_seeds': 1, 'num_held_out': 1,
                'held_out_text': 'il tetto'}
    spaced = tokenizer.encode(' la luna.')
    monkeypatch.setattr('lab.measures.write', lambda *given: ([spaced], {}))
    for answer in ('la luna', ' la luna'):
        found = MEASURES['recall'](model, tokenizer, {**settings, 'answer': answer})
        assert found['samples']['right'] == [1] and found['texts'] == [' la luna.']
    assert 'no space in front' in grid.note_on({**settings, 'answer': ' la luna'})
    assert grid.note_on(settings) == ''


def test_a_chat_of_facts_is_refused_and_runs_of_bare_text_keep_their_names(defaults):
    config = {**defaults, 'measure': 'facts', 'chat': True}
    with pytest.raises(ValueError, match="measure 'facts' asks in bare text"):
        grid.points_of(config)
    s = {**defaults, 'memory_text': 'x', 'condition': 'memory'}
    assert runs.run_id(s, 'w') == runs.run_id({**s, 'system': 'y'}, 'w')
    names = {runs.run_id({**s, 'chat': True, 'system': system}, 'w') for system in ('', 'y')}
    assert len({*names, runs.run_id(s, 'w')}) == 3
