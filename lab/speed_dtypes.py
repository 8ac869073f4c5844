"""
What a narrower dtype costs the text: perplexity, and how often another token is likeliest than in float32.

Tokens are given one after the other, as they are when a model writes.
"""
import math
import os

import torch
from tqdm import tqdm

from core.cache import Cache
from core.packed import megabytes
from lab.speed_start import DTYPES
from load import load_model, read_text

ROOT = os.path.dirname(os.path.dirname(__file__))
HELD_OUT = os.path.join(ROOT, 'config', 'writeup', 'held_out.txt')  # prose that no model has seen from us
TOKENS, PROMPT, GREEDY = 1000, 200, 100  # of it, so many scored, and written behind the first of it


def measure_dtypes(folder, setup):
    """-> for each dtype megabytes of weights, tokens scored, their perplexity, the share of them whose
    likeliest successor is that of float32, and how many greedy tokens are, of how many."""
    table, exact = [], None
    print("\ndtypes: MB of weights, perplexity of held-out prose, share of its tokens whose likeliest "
          "successor is float32's, greedy tokens equal to its")
    for dtype in DTYPES if setup.device == 'cpu' else DTYPES[:2]:
        model, tokenizer = load_model(folder, device=setup.device, dtype=dtype)
        ids = tokenizer.encode(read_text(f'FILE:{HELD_OUT}'))[:min(TOKENS, model.config.block_size)]
        row, written = scored(model, torch.tensor([ids], device=setup.device), dtype)
        exact = exact or written
        row['same_likeliest'] = share_equal(written[0], exact[0])
        row['greedy_equal'] = int((written[1] == exact[1]).sum())
        print(f"  {dtype:10}{row['weights_mb']:8.0f}{row['perplexity']:9.3f}{row['same_likeliest']:9.3f}"
              f"{row['greedy_equal']:5}", flush=True)
        table.append(row)
    return table


def scored(model, idx, dtype):
    """idx (1, T) -> a row of the table, and what is likeliest after each token, and greedily written."""
    cache, losses, likeliest = Cache(idx.size(1)), [], []
    with torch.inference_mode():
        for one, then in tqdm(zip(idx[0, :-1], idx[0, 1:]), dtype, idx.size(1) - 1, leave=False):
            logits = model(one.view(1, 1), cache=cache)[0][0, 0].float()
            losses.append(logits.logsumexp(0) - logits[then])
            likeliest.append(logits.argmax())
    prompt = min(PROMPT, idx.size(1) // 2)
    written = model.generate(idx[:, :prompt], min(GREEDY, idx.size(1) - prompt), top_k=1)[0, prompt:]
    row = {'dtype': dtype, 'weights_mb': megabytes(model), 'tokens': len(losses), 'greedy': len(written),
           'perplexity': math.exp(torch.stack(losses).mean())}
    return row, (torch.stack(likeliest), written)


def share_equal(a, b):
    return (a == b).float().mean().item()
