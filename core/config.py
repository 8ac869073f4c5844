"""
What a checkpoint is, as fields: GPT-2 and the Llama family are the same code with other fields.
"""
from dataclasses import dataclass


@dataclass
class GPTConfig:
    block_size: int = 1024
    vocab_size: int = 50304  # GPT-2's 50257, padded to a multiple of 64 for speed
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True  # of all linear layers and layer norms, as GPT-2 has them
    n_inner: int = 0  # width of the MLP, 0 is 4 * n_embd
    mlp: str = 'gelu_new'  # GPT-2's tanh form; 'gelu', exact, as nanoGPT trains; 'silu', gated, Llama's
    layer_norm_epsilon: float = 1e-5
    name: str = ''  # where the weights come from
    n_kv_head: int = 0  # key heads, 0 is n_head
    head_size: int = 0  # 0 is n_embd / n_head
    position: str = 'learned'  # or 'rotary'
    rope_theta: float = 10000.0
    rope_scaling: tuple = ()  # Llama 3's, see core/rotary.py
    rope_factors: tuple = ()  # the same as a GGUF file has it, one a frequency
    norm: str = 'layer'  # or 'rms'
    qk_norm: bool = False  # of each query and key, before the rotation
    bias_attn: bool = False  # where `bias` is False: of queries, keys and values, as Qwen2 has it
    bias_proj: bool = False
    bias_mlp: bool = False
    tied: bool = True  # lm_head is wte

    def __post_init__(self):
        self.n_kv_head = self.n_kv_head or self.n_head
        if self.n_head < 1 or not self.head_size and self.n_embd % self.n_head != 0:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        self.head_size = self.head_size or self.n_embd // self.n_head
        if self.n_head % self.n_kv_head != 0:
            raise ValueError(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
