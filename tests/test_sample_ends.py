"""
Where a text that is no chat ends: at the end of a turn, for a model that was taught turns.

$ python -m pytest tests/test_sample_ends.py
"""
import torch

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
