"""
SmolLM2 from the file of its package: transformers' Llama with the same numbers is the oracle.

Built here by the file's own names, since transformers reads a GGUF file only with one more package, and in a
minute; read by it once, its logits were within 1.5e-4 of ours.

$ python -m pytest tests/test_smollm2.py
"""
import pytest
import torch
from test_gguf import SMOLLM2, needs_smollm2
from transformers import LlamaConfig, LlamaForCausalLM

from core.families import GGUF, HUGGING_FACE
from core.gguf_file import read_gguf
from memory import PersistentMemory

pytestmark = needs_smollm2
PROMPT = "\nThe name of the city with the third-largest metropolitan area in Canada is"
TEXT = "Vancouver is a city in Canada. It has the third-largest metropolitan area of the country."


def as_neighbours_are_turned(w, n_head):
    """Numbers 2n and 2n + 1 of a head, which llama.cpp turns together -> n and n + hs/2."""
    heads = w.view(n_head, -1, w.size(1))
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).reshape(w.shape)


@pytest.fixture(scope='module')
def hugging_face():
    file, tensors = read_gguf(SMOLLM2), {}
    for name in file:
        layer = f"model.layers.{name.split('.')[1]}." if name.startswith('blk.') else ''
        part = next(part for part, known in GGUF.items() if known == name.split('.')[-2])
        n_head = {'q': 9, 'k': 3}.get(part)
        w = as_neighbours_are_turned(file[name], n_head) if n_head else file[name]
        tensors[f'{layer}{HUGGING_FACE[part]}.weight'] = w
    config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
                         rope_parameters={'rope_type': 'default', 'rope_theta': 100000.0}, rms_norm_eps=1e-5,
                         tie_word_embeddings=True, bos_token_id=None, eos_token_id=None)
    with torch.device('meta'):  # no time for random numbers
        hf = LlamaForCausalLM(config)
    hf.model.rotary_emb = type(hf.model.rotary_emb)(config)
    missing = hf.load_state_dict(tensors, strict=False, assign=True).missing_keys
    assert missing == ['lm_head.weight']
    hf.tie_weights()
    return hf.eval()


def test_logits_are_those_of_transformers(smollm2, hugging_face):
    model, tokenizer = smollm2
    idx = torch.tensor([tokenizer.encode(PROMPT + " Vancouver. Naïve 日本 1234\n\n\tif x:")])
    with torch.no_grad():
        torch.testing.assert_close(model(idx, targets=idx)[0], hugging_face(idx).logits, atol=1e-3, rtol=0)


def test_a_greedy_text_of_64_tokens_is_what_transformers_finds_likeliest_at_each_step(smollm2, hugging_face):
    model, tokenizer = smollm2
    idx = torch.tensor([tokenizer.encode(PROMPT)])
    found = model.generate(idx, 64, top_k=1)
    with torch.inference_mode():
        likeliest = hugging_face(found).logits.argmax(-1)
    assert found[0, idx.size(1):].tolist() == likeliest[0, idx.size(1) - 1:-1].tolist()
    assert found.shape == (1, idx.size(1) + 64)


def test_a_text_in_memory_is_the_text_in_the_prompt(smollm2):
    model, tokenizer = smollm2
    header, text, question = (tokenizer.encode(part) for part in ('\n', TEXT, PROMPT[1:]))
    whole = torch.tensor([header + text + question])
    expected = model(whole)[0]
    layers = tuple(range(model.config.n_layer))
    memory = PersistentMemory.from_tokens(model, header + text, layers)
    try:
        model.attach_memory(memory, layers, k=100, method=4, softmax_scale=1.0, positions='insert')
        read = model(torch.tensor([header + question]))[0]
    finally:
        model.detach_memory()
    torch.testing.assert_close(read, expected, atol=1e-3, rtol=0)
    assert read.argmax() == tokenizer.encode(' Vancouver')[0]
