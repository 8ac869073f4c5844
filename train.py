"""
Trains a GPT-2 from scratch, or finetunes one, on data/<dataset>/train.bin. nanoGPT's trainer in spirit, for one device.

$ python data/tinyworld/prepare.py && python train.py config/train_tinyworld.py
$ python train.py config/train_tinyworld.py --init_from=resume      # goes on after an interruption
$ python train.py --init_from=gpt2 --dataset=mine --learning_rate=3e-5 --export_dir=out-mine/gpt2-mine
"""
import math
import os
import platform
import shutil
import time
from contextlib import nullcontext

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
out_dir = 'out'  # checkpoints and the log
export_dir = ''  # at the end, the best weights go here in Hugging Face format, '' is nowhere
eval_interval = 500  # steps between evaluations, each followed by a checkpoint
log_interval = 50
eval_iters = 20  # batches of an evaluation
always_save_checkpoint = False  # False keeps the best by validation loss for export, True the last
init_from = 'scratch'  # 'scratch', 'resume' (from out_dir), or a GPT-2 to finetune: hub name or folder
dataset = 'tinyworld'  # data/<dataset>/train.bin and val.bin, uint16 token ids
start_tokens = ()  # rows begin at the last of these tokens, () is anywhere: (198, 198) is the line after an empty one
restart_positions = 0.0  # share of the last start token's places at which a row's positions begin again at 0, see Batches.positions
restart_after = 0  # steps before the first of it
batch_size = 12
gradient_accumulation_steps = 1
block_size = 1024
n_layer = 12
n_head = 12
n_embd = 768
vocab_size = 50304  # of a model from scratch; data/<dataset>/tokenizer.json wins where there is one
dropout = 0.0
bias = True  # biases in Linear and LayerNorm, as GPT-2 has them
learning_rate = 6e-4
max_iters = 10000
weight_decay = 0.1
beta1 = 0.9
beta2 = 0.95
grad_clip = 1.0  # 0.0 is off
decay_lr = True  # cosine to min_lr at lr_decay_iters
warmup_iters = 100
lr_decay_iters = 10000
min_lr = 6e-5
seed = 1337
device = 'auto'  # 'auto', 'cpu', 'cuda'
dtype = 'bfloat16'  # autocast: 'float32' or 'bfloat16'
compile = False  # torch.compile, pays on a GPU
wandb_log = False
wandb_project = 'memory'
wandb_run_name = 'train'
# -----------------------------------------------------------------------------
config = configure(globals())

import numpy as np  # noqa: E402, settings are checked before the slow imports
import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from core.atomic import whole_files  # noqa: E402
from core.weights import read_checkpoint  # noqa: E402
from load import pick_device, tokenizer_of_folder  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402


class Batches:
    """Batches of one split, drawn by step number, so that a resumed run sees what an uninterrupted one would."""

    def __init__(self, split, sizes):
        path = os.path.join('data', dataset, f'{split}.bin')
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no {path}: make it with python {os.path.join('data', dataset, 'prepare.py')}")
        self.tokens = np.memmap(path, dtype=np.uint16, mode='r')
        self.block_size = min(block_size, sizes.block_size)
        matches = [self.tokens[i:len(self.tokens) - len(start_tokens) + i + 1] == token for i, token in enumerate(start_tokens)]
        starts = np.flatnonzero(np.all(matches, axis=0)) + len(start_tokens) - 1 if matches else np.arange(len(self.tokens))
        self.starts = starts[starts + self.block_size < len(self.tokens)]
        if len(self.starts) == 0:
            raise ValueError(f"{path} holds {len(self.tokens)} tokens, too few for one row of {self.block_size} "
                             f"(start_tokens={start_tokens})")
        if self.tokens.max() >= sizes.vocab_size:
            raise ValueError(f"{path} holds the token id {self.tokens.max()}, the model's vocabulary is {sizes.vocab_size}: "
                             "encode the text with the model's own tokenizer")
        self.split = 0 if split == 'train' else 1

    def get(self, step):
        """-> x, targets, positions, each (batch_size, block_size) int64 on the device."""
        rng = np.random.default_rng((seed, self.split, step))
        rows = np.stack([self.tokens[i:i + self.block_size + 1] for i in rng.choice(self.starts, batch_size)]).astype(np.int64)
        pos = self.positions(rows[:, :-1], rng if step >= restart_after and self.split == 0 else None)
        return [torch.from_numpy(part).to(device) for part in (rows[:, :-1], rows[:, 1:], pos)]

    def positions(self, x, rng):
        """0, 1, 2, ... in each row; with rng, some lines begin again at 0.

        A memory was written at positions of its own, which are also the prompt's. A model that has only ever seen keys at lower
        positions than its query's loses its way among them; one that has seen some lines begin again does not.
        """
        place = np.broadcast_to(np.arange(x.shape[1]), x.shape)
        if rng is None or not start_tokens:
            return place.copy()
        begins = (x == start_tokens[-1]) & (rng.random(x.shape) < restart_positions)
        return place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)


def make_model():
    """-> the model, and the checkpoint it goes on from or None."""
    if init_from == 'resume':
        path = os.path.join(out_dir, 'last.pt')
        checkpoint = read_checkpoint(path)
        if not {'optimizer', 'iter_num', 'best_val_loss', 'seconds'} <= checkpoint.keys():
            raise ValueError(f"{path} cannot be resumed, it was not written by train.py: finetune with --init_from=<folder>")
        return GPT.from_checkpoint(path), checkpoint
    if init_from != 'scratch':
        return GPT.from_pretrained(init_from), None
    sizes = {name: config[name] for name in ('block_size', 'n_layer', 'n_head', 'n_embd', 'dropout', 'bias')}
    return GPT(GPTConfig(**sizes, vocab_size=dataset_vocab_size(), name=dataset)), None


def dataset_vocab_size():
    tokenizer = tokenizer_of_folder(os.path.join('data', dataset))
    return tokenizer.n_vocab if tokenizer else vocab_size


def make_optimizer(model):
    """AdamW; matrices decay, biases and layer norms do not."""
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{'params': [p for p in params if p.dim() >= 2], 'weight_decay': weight_decay},
              {'params': [p for p in params if p.dim() < 2], 'weight_decay': 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), fused=True)


def get_lr(step):
    """Linear warm-up, cosine decay, then min_lr."""
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if not decay_lr:
        return learning_rate
    progress = min(1.0, (step - warmup_iters) / max(1, lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (learning_rate - min_lr)


def autocast():
    return torch.autocast(device, dtype=torch.bfloat16) if dtype == 'bfloat16' else nullcontext()


def step_loss(model, batches, step):
    x, targets, pos = batches.get(step)
    return model(x, targets, pos=pos)[1]


@torch.no_grad()
def estimate_loss(model, splits):
    """Mean loss of eval_iters batches of each split, the same batches each time."""
    model.eval()
    losses = {}
    for name, batches in splits.items():
        with autocast():
            losses[name] = sum(step_loss(model, batches, 10**9 + i).item() for i in range(eval_iters)) / eval_iters
    model.train()
    return losses


def train_step(model, optimizer, batches, step):
    """One update -> the loss, in nats."""
    for group in optimizer.param_groups:
        group['lr'] = get_lr(step)
    total = 0.0
    for micro in range(gradient_accumulation_steps):
        with autocast():
            loss = step_loss(model, batches, step * gradient_accumulation_steps + micro)
        (loss / gradient_accumulation_steps).backward()
        total += loss.item() / gradient_accumulation_steps
    if grad_clip > 0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def save(name, model, optimizer, step, best_val_loss, seconds):
    """Writes out_dir/name whole or not at all, in nanoGPT's format."""
    with whole_files(out_dir) as beside:
        torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'model_args': vars(model.config), 'iter_num': step,
                    'best_val_loss': best_val_loss, 'config': config, 'seconds': seconds}, os.path.join(beside, name))


def log(line):
    tqdm.write(line)
    with open(os.path.join(out_dir, 'log.txt'), 'a') as f:
        f.write(line + '\n')


def export(seconds):
    """The best checkpoint as a folder in Hugging Face format, half precision, with tokenizer and the log's last lines."""
    GPT.from_checkpoint(os.path.join(out_dir, 'ckpt.pt')).save_pretrained(export_dir, dtype=torch.float16)
    tokens = max_iters * batch_size * gradient_accumulation_steps * block_size
    log(f"trained {max_iters} steps, {tokens:,} tokens, {seconds / 60:.0f} minutes on {machine()}, torch {torch.__version__}")
    with open(os.path.join(out_dir, 'log.txt')) as f:
        lines = f.readlines()[-12:]
    tokenizer = os.path.join('data', dataset, 'tokenizer.json')
    with whole_files(export_dir) as beside:
        if os.path.isfile(tokenizer):
            shutil.copy(tokenizer, beside)
        with open(os.path.join(beside, 'train_log.txt'), 'w') as f:
            f.writelines(lines)


def machine():
    if device == 'cuda':
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"


def check_settings():
    for name in ('eval_interval', 'log_interval', 'eval_iters', 'batch_size', 'gradient_accumulation_steps', 'block_size', 'n_layer',
                 'n_head', 'n_embd', 'vocab_size', 'max_iters'):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}, expected 1 or more")
    if not 0 <= restart_positions <= 1:
        raise ValueError(f"restart_positions is {restart_positions}, expected 0 to 1")
    if not 0 <= dropout < 1 or not 0 <= seed < 2**63:
        raise ValueError(f"dropout is {dropout}, expected 0 to 1; seed is {seed}, expected a whole number from 0 on")
    if dtype not in ('float32', 'bfloat16'):
        raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'bfloat16'")


def set_dropout(model):
    """A finetuned or resumed model takes the setting too, as in nanoGPT."""
    model.config.dropout = dropout
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    for block in model.transformer.h:
        block.attn.dropout = dropout


def main():
    global device
    check_settings()
    device = pick_device(device)
    torch.manual_seed(seed)
    os.makedirs(out_dir, exist_ok=True)
    model, checkpoint = make_model()
    set_dropout(model)
    model.to(device).train()
    splits = {split: Batches(split, model.config) for split in ('train', 'val')}
    optimizer = make_optimizer(model)
    first, best, started = 0, math.inf, time.time()
    if checkpoint:
        optimizer.load_state_dict(checkpoint['optimizer'])
        first, best = checkpoint['iter_num'], checkpoint['best_val_loss']
        started -= checkpoint['seconds']
    fast = torch.compile(model) if compile else model
    run = start_wandb()
    log(f"{model.get_num_params():,} parameters, {len(splits['train'].tokens):,} training tokens, {machine()}")
    progress = tqdm(range(first, max_iters + 1), initial=first, total=max_iters, mininterval=5)
    for step in progress:
        if step % eval_interval == 0 or step == max_iters:
            losses = estimate_loss(fast, splits)
            log(f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, lr {get_lr(step):.2e}")
            if run:
                run.log({'iter': step, 'lr': get_lr(step), **{f'{name}/loss': loss for name, loss in losses.items()}})
            if losses['val'] < best or always_save_checkpoint:
                best = min(best, losses['val'])
                save('ckpt.pt', model, optimizer, step, best, time.time() - started)
            save('last.pt', model, optimizer, step, best, time.time() - started)
        if step == max_iters:
            break
        loss = train_step(fast, optimizer, splits['train'], step)
        if step % log_interval == 0:
            progress.set_postfix(loss=f'{loss:.3f}')
    if export_dir:
        export(time.time() - started)


def start_wandb():
    """-> a run of Weights & Biases to log to, or None."""
    if not wandb_log:
        return None
    import wandb
    return wandb.init(project=wandb_project, name=wandb_run_name, config=config)


if __name__ == '__main__':
    with one_line_errors('--init_from=resume goes on from the last checkpoint'):
        main()
