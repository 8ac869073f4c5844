"""The Llama family from Hugging Face's format: transformers' own models, tiny and random, are the oracle."""
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core.cache import Cache
from core.families import fields_of_hugging_face, state_of_hugging_face
from model import GPT, GPTConfig

SIZES = {'vocab_size': 96, 'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 3,
         'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 128,
         'pad_token_id': 0, 'bos_token_id': None, 'eos_token_id': None}  # so that texts never end
LLAMA3 = {'rope_type': 'llama3', 'rope_theta': 5000.0, 'factor': 8.0, 'low_freq_factor': 1.0,
          'high_freq_factor': 4.0,
          'original_max_position_embeddings': 32}
VARIANTS = {
    'llama, grouped heads': {'model_type': 'llama'},
    'llama, one key head, tied': {'model_type': 'llama', 'num_key_value_heads': 1,
                                  'tie_word_embeddings': True},
    'llama, wide heads, biases': {'model_type': 'llama', 'head_dim': 12, 'attention_bias': True,
                                  'mlp_bias': True},
    'llama, scaled rotation': {'model_type': 'llama', 'head_dim': 16, 'rope_parameters': LLAMA3},
    'mistral, wide heads': {'model_type': 'mistral', 'head_dim': 16, 'sliding_window': None},
    'mistral, all heads are key heads': {'model_type': 'mistral', 'num_key_value_heads': 4,
                                         'rope_theta': 70.0},
    'qwen2, biases, tied': {'model_type': 'qwen2', 'tie_word_embeddings': True, 'rms_norm_eps': 1e-3},
    'qwen2, untied': {'model_type': 'qwen2', 'rope_theta': 1e6},
    'qwen3, norms of queries and keys': {'model_type': 'qwen3', 'head_dim': 16},
    'qwen3, biases, tied': {'model_type': 'qwen3', 'head_dim': 8, 'attention_bias': True,
                            'tie_word_embeddings': True},
}


def hugging_face(**settings):
    """A random model of transformers; its attention is sharp, its norms and biases are not 1 and 0."""
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**SIZES, **settings})).eval()
    with torch.no_grad():
        for name, p in hf.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.3)
            else:
                p.mul_(12 if 'q_proj' in name or 'k_proj' in name else 6)
    return hf


def ours(hf, **config):
    given = {**hf.config.to_dict(), **config}
    fields = fields_of_hugging_face(given, 'tiny')
    return GPT.of_weights(fields, state_of_hugging_face(tensors_of(hf), fields, 'tiny'))


def tensors_of(hf):
    """As save_pretrained writes them: a tied head only once."""
    tied = hf.config.tie_word_embeddings
    return {name: w for name, w in hf.state_dict().items() if not tied or name != 'lm_head.weight'}


@pytest.fixture(params=VARIANTS)
def both(request):
    hf = hugging_face(**VARIANTS[request.param])
    return hf, ours(hf)


def all_logits(model, idx, **settings):
    return model(idx, targets=idx, **settings)[0]


def test_logits_are_those_of_transformers(both):
    hf, model = both
    idx = torch.randint(96, (2, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = hf(idx).logits
        assert expected.std() > 0.5  # not a model for which everything is the same
        torch.testing.assert_close(all_logits(model, idx), expected, atol=1e-4, rtol=0)


def test_greedy_texts_are_what_transformers_finds_likeliest_at_each_step(both):
    hf, model = both
    texts = model.generate(torch.arange(40).reshape(8, 5), 64, top_k=1)  # many end in a loop
    with torch.no_grad():
        likeliest = hf(texts).logits.argmax(-1)
    assert texts.shape == (8, 69) and torch.equal(texts[:, 5:], likeliest[:, 4:-1])
    assert len(texts[:, 5:].unique()) > 4


def test_rows_of_a_batch_and_chunks_through_a_cache_are_the_same_as_alone_and_at_once(both):
    _, model = both
    idx = torch.randint(96, (3, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        together = all_logits(model, idx)
        for b in range(3):
            torch.testing.assert_close(all_logits(model, idx[b:b + 1]), together[b:b + 1], atol=1e-4,
                                       rtol=0)
        cache = Cache(24)
        chunks = [all_logits(model, chunk, cache=cache) for chunk in idx.split([1, 7, 11, 5], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), together, atol=1e-4, rtol=0)


REFUSED = {
    'mixture of experts': ({'model_type': 'mixtral'}, "'mixtral'"),
    'experts by number': ({'model_type': 'llama', 'num_local_experts': 8}, 'num_local_experts=8'),
    'qwen2_moe': ({'model_type': 'qwen2_moe'}, "'qwen2_moe'"),
    'no type': ({}, "'nameless'"),
    'window of mistral by default': ({'model_type': 'mistral', 'max_position_embeddings': 8192},
                                     'sliding_window=4096'),
    'window of mistral': ({'model_type': 'mistral', 'sliding_window': 64}, 'sliding_window=64'),
    'window of qwen2': ({'model_type': 'qwen2', 'use_sliding_window': True, 'sliding_window': 64,
                         'max_window_layers': 1}, 'sliding_window=64'),
    'window of qwen3 by layer': ({'model_type': 'qwen3', 'use_sliding_window': True, 'sliding_window': 64,
                                  'layer_types': ['full_attention', 'sliding_attention', 'full_attention']},
                                 'sliding_window=64'),
    'window of a llama': ({'model_type': 'llama', 'sliding_window': 64}, 'sliding_window=64'),
    'chunked layers': ({'model_type': 'llama', 'layer_types': ['chunked_attention'] * 3},
                       'chunked_attention'),
    'yarn': ({'model_type': 'qwen2', 'rope_scaling': {'type': 'yarn', 'factor': 4.0,
                                                      'original_max_position_embeddings': 32}}, "'yarn'"),
    'linear': ({'model_type': 'llama', 'rope_scaling': {'type': 'linear', 'factor': 4.0}}, "'linear'"),
    'dynamic': ({'model_type': 'llama', 'rope_scaling': {'rope_type': 'dynamic', 'factor': 4.0}},
                "'dynamic'"),
    'longrope': ({'model_type': 'llama', 'rope_parameters': {'rope_type': 'longrope', 'rope_theta': 1e4}},
                 "longrope"),
    'partial rotation': ({'model_type': 'llama', 'partial_rotary_factor': 0.5},
                         'partial_rotary_factor=0.5'),
    'partial rotation inside': ({'model_type': 'llama', 'rope_parameters': {
        'rope_type': 'default', 'rope_theta': 1e4, 'partial_rotary_factor': 0.5}},
        'partial_rotary_factor=0.5'),
    'another activation': ({'model_type': 'llama', 'hidden_act': 'gelu'}, "hidden_act='gelu'"),
    'tensor parallel': ({'model_type': 'llama', 'pretraining_tp': 2}, 'pretraining_tp=2'),
    'soft caps': ({'model_type': 'llama', 'attn_logit_softcapping': 50.0}, 'attn_logit_softcapping=50.0'),
    'parallel residual': ({'model_type': 'llama', 'use_parallel_residual': True},
                          'use_parallel_residual=True'),
    'logits that are scaled': ({'model_type': 'llama', 'logit_scale': 0.25}, 'logit_scale=0.25'),
    'quantised': ({'model_type': 'llama', 'quantization_config': {'bits': 4}}, 'quantization_config'),
    'no heads': ({'model_type': 'llama', 'num_attention_heads': 0}, 'tiny'),
    'heads that do not divide': ({'model_type': 'llama', 'num_key_value_heads': 3}, '3 key heads'),
    'words for numbers': ({'model_type': 'llama', 'hidden_size': 'wide'}, 'hidden_size'),
    'theta of nothing': ({'model_type': 'llama', 'rope_theta': 0.0}, 'rope_theta=0.0'),
    'epsilon of nothing': ({'model_type': 'qwen2', 'rms_norm_eps': float('nan')}, 'nan'),
    'an odd head': ({'model_type': 'llama', 'head_dim': 7}, 'head_dim'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_would_be_computed_otherwise_is_refused_in_one_line_that_names_it(case):
    given, named = REFUSED[case]
    with pytest.raises(ValueError) as error:
        fields_of_hugging_face({**SIZES, **given}, 'tiny')
    assert named in str(error.value) and '\n' not in str(error.value)


def test_a_window_as_long_as_the_context_changes_nothing_and_is_loaded():
    fields = fields_of_hugging_face({**SIZES, 'model_type': 'mistral', 'sliding_window': 128}, 'tiny')
    assert fields['block_size'] == 128


def test_fields_that_families_leave_out_have_their_own_defaults():
    assert fields_of_hugging_face({'model_type': 'qwen3'}, 'x')['head_size'] == 128
    assert fields_of_hugging_face({'model_type': 'llama'}, 'x')['rope_theta'] == 10000
    assert fields_of_hugging_face({'model_type': 'llama'}, 'x')['tied'] is False


def break_state(change):
    hf = hugging_face(model_type='llama')
    fields, tensors = fields_of_hugging_face(hf.config.to_dict(), 'tiny'), tensors_of(hf)
    change(tensors)
    return lambda: read(state_of_hugging_face(tensors, fields, 'tiny'))


def read(state):
    return {name: w[:] for name, w in state.items()}


BROKEN = {
    'missing': (lambda t: t.pop('model.layers.1.self_attn.k_proj.weight'),
                'model.layers.1.self_attn.k_proj.weight is missing'),
    'no head': (lambda t: t.pop('lm_head.weight'), 'lm_head.weight is missing'),
    'surplus': (lambda t: t.update({'model.layers.0.self_attn.sinks': torch.ones(4)}), 'self_attn.sinks'),
    'a layer too many': (lambda t: t.update({'model.layers.3.mlp.up_proj.weight': torch.ones(48, 32)}),
                         'layers.3.mlp'),
    'a bias too many': (lambda t: t.update({'model.layers.0.self_attn.q_proj.bias': torch.ones(32)}),
                        'q_proj.bias'),
    'shape': (lambda t: t.update({'model.layers.2.mlp.up_proj.weight': torch.ones(40, 32)}),
              'has the shape (40, 32)'),
    'nan': (lambda t: t['model.norm.weight'].fill_(float('nan')), 'at least 32 numbers'),
    'codes': (lambda t: t.update({'model.norm.weight': torch.ones(32, dtype=torch.int8)}), 'int8'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_tensor_that_does_not_fit_is_named_in_one_line(case):
    change, named = BROKEN[case]
    with pytest.raises(ValueError) as error:
        break_state(change)()
    assert named in str(error.value) and '\n' not in str(error.value)


def test_another_head_beside_a_tied_embedding_is_refused_and_the_same_one_is_not():
    hf = hugging_face(model_type='llama', tie_word_embeddings=True)
    fields, tensors = fields_of_hugging_face(hf.config.to_dict(), 'tiny'), tensors_of(hf)
    same = {**tensors, 'lm_head.weight': tensors['model.embed_tokens.weight'].clone()}
    names = {*read(state_of_hugging_face(same, fields, 'tiny')), 'lm_head.weight'}
    assert names == set(GPT(GPTConfig(**fields)).state_dict())
    for other in torch.ones(96, 32), torch.ones(95, 32):
        with pytest.raises(ValueError, match='tie_word_embeddings'):
            read(state_of_hugging_face({**tensors, 'lm_head.weight': other}, fields, 'tiny'))


def test_constants_of_old_files_and_the_names_of_a_model_without_head_are_read():
    hf = hugging_face(model_type='qwen2', tie_word_embeddings=True)
    fields, tensors = fields_of_hugging_face(hf.config.to_dict(), 'tiny'), tensors_of(hf)
    bare = {name.removeprefix('model.'): w for name, w in tensors.items()}
    old = {**bare, 'layers.0.self_attn.rotary_emb.inv_freq': torch.ones(4)}
    expected = read(state_of_hugging_face(tensors, fields, 'tiny'))
    found = read(state_of_hugging_face(old, fields, 'tiny'))
    assert all(torch.equal(found[name], w) for name, w in expected.items())


@pytest.mark.parametrize('model_type', ['llama', 'mistral', 'qwen2', 'qwen3'])
def test_odd_values_in_a_config_are_refused_in_one_line_or_change_nothing(model_type):
    given = {**SIZES, 'model_type': model_type, 'sliding_window': None, 'layer_types': None,
             'rope_theta': 1e4, 'rope_scaling': None, 'rope_parameters': None, 'head_dim': 8,
             'hidden_act': 'silu',
             'rms_norm_eps': 1e-6, 'attention_bias': False, 'tie_word_embeddings': False}
    for name in given:
        for odd in ('x', 'a\nb' * 500, -1, 0, None, [], {}, [[1]], {'a': 1}, 1.5, float('nan'), 10**30,
                    10**400, [1] * 1000, {'rope_theta': 10**400}, {'rope_type': 'llama3'}):
            try:
                fields = fields_of_hugging_face({**given, name: odd}, 'tiny')
            except ValueError as error:
                assert '\n' not in str(error) and len(str(error)) < 450
            else:
                GPTConfig(**fields)
