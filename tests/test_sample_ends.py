"""
Where a text that is no chat ends: at the end of a turn, for a model that was taught turns; and what a text
past the context sees.

$ python -m pytest tests/test_sample_ends.py
"""
import re

import pytest
import torch

import page.trace
from load import load_model
from model import GPT


def test_the_bare_text_of_a_model_with_a_chat_template_ends_where_a_turn_would(run, instruct, monkeypatch):
    _, tokenizer = load_model(instruct)
    end, letter = tokenizer.chat.end_ids[0], tokenizer.encode('a')[0]

    def generate(self, idx, n, temperature, top_k, seeds, end_ids, question, drop_half):
        assert tuple(end_ids) == tuple(tokenizer.chat.end_ids)
        return torch.cat((idx, idx.new_tensor([[letter, end, letter]]).expand(len(idx), -1)), dim=1)
    monkeypatch.setattr(GPT, 'generate', generate)
    code, out, err = run('sample.py', '--start=b', '--num_samples=1', '--max_new_tokens=3',
                         init_from=instruct)
    assert (code, err) == (0, '')
    assert out.splitlines()[-3].split() == ['plain', 'ba']


def test_drop_half_is_how_a_text_past_the_context_is_written_and_traced(run, folder, tmp_path, monkeypatch):
    given, traced, generate, trace_of = [], [], GPT.generate, page.trace.trace_of
    monkeypatch.setattr(GPT, 'generate', lambda self, *arguments, **named: given.append(named['drop_half'])
                        or generate(self, *arguments, **named))
    monkeypatch.setattr(page.trace, 'trace_of', lambda *told: traced.append(told[-1]) or trace_of(*told))
    means = []
    for half in (False, True):
        code, out, err = run('sample.py', '--memory_text=Cats are good.', '--memory_layers=0',
                             '--start=Cats are', '--max_new_tokens=150', '--num_samples=1',
                             f'--drop_half={half}',
                             f"--trace_file={tmp_path / 'trace.json'}", init_from=folder)
        assert code == 0, err
        means.append(int(re.search(r'of (\d+) token-heads per step over all', out)[1]))
    assert given == [False, False, True, True] and traced == [False, True]
    T = int(re.search(r'searched \d+ of (\d+)', out)[1]) // 6  # 3 layers of 2 heads
    seen = [n - 64 * (n > 128) for n in range(T, T + 150)]  # of 128 tokens 64 leave at once
    assert means[1] == pytest.approx(6 * sum(seen) / 150, abs=1) and means[0] > means[1]
