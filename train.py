"""
Trains a GPT-2 from scratch, or finetunes one, on data/<dataset>/train.bin: nanoGPT's trainer, on one device.

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
eval_only = False  # evaluate once and write nothing
always_save_checkpoint = False  # False keeps the best by validation loss for export, True the last
init_from = 'scratch'  # or 'resume' (out_dir/last.pt, or nanoGPT's ckpt.pt), or a GPT-2: hub name or folder
dataset = 'tinyworld'  # data/<dataset>/train.bin and val.bin, uint16 token ids; or ~/folder, /folder
start_tokens = ()  # rows begin at the last of these tokens, () is anywhere: (198, 198): after an empty line
restart_positions = 0.0  # share of the last start token's places where positions begin again at 0
restart_after = 0  # steps before the first of it
batch_size = 12
gradient_accumulation_steps = 1
block_size = 1024
n_layer = 12
n_head = 12
n_embd = 768
vocab_size = 50304  # of a model from scratch; a tokenizer or a meta.pkl in data/<dataset> wins
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
threads = 0  # of a CPU, 0 is torch's own choice
dtype = 'bfloat16'  # autocast: 'float32' or 'bfloat16'
compile = False  # torch.compile, pays on a GPU
wandb_log = False
wandb_project = 'memory'
wandb_run_name = 'train'
# -----------------------------------------------------------------------------
config = configure(globals())

import torch  # noqa: E402, settings are checked before the slow imports
from tqdm import tqdm  # noqa: E402

from core.atomic import whole_files  # noqa: E402
from core.batches import Batches, Rows  # noqa: E402
from core.checkpoints import begun_from, checkpoint_to_resume  # noqa: E402
from core.datasets import (  # noqa: E402
    check_dataset,
    folder_of_dataset,
    tokenizer_files,
    vocabulary_of_dataset,
)
from core.wandb_run import start_wandb  # noqa: E402
from core.weights import read_checkpoint  # noqa: E402
from load import pick_device, use_threads  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402

DATA = folder_of_dataset(dataset)
STATE = 'optimizer', 'iter_num', 'best_val_loss'  # of a checkpoint, what training needs to go on


def make_model():
    """-> the model to train, and the checkpoint it goes on from, {} for none."""
    if init_from == 'resume':
        path, checkpoint = checkpoint_to_resume(out_dir, () if eval_only else STATE, max_iters)
        return GPT.from_checkpoint(path).unfreeze(), checkpoint
    if init_from != 'scratch':
        return GPT.from_pretrained(init_from).unfreeze(), {}
    sizes = {name: config[name] for name in ('block_size', 'n_layer', 'n_head', 'n_embd', 'dropout', 'bias')}
    return GPT(GPTConfig(**sizes, vocab_size=vocabulary_of_dataset(DATA) or vocab_size, name=dataset)), {}


def make_splits(sizes):
    length = min(block_size, sizes.block_size)
    rows = Rows(batch_size, length, start_tokens, restart_positions, restart_after, seed)
    return {split: Batches(os.path.join(DATA, f'{split}.bin'), split, rows, sizes.vocab_size)
            for split in ('train', 'val')}


def make_optimizer(model, state):
    """AdamW; matrices decay, biases and layer norms do not. state: of a checkpoint's optimizer, or None."""
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{'params': [p for p in params if p.dim() >= 2], 'weight_decay': weight_decay},
              {'params': [p for p in params if p.dim() < 2], 'weight_decay': 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), fused=True)
    if state is not None:
        optimizer.load_state_dict(state)
        for group, now in zip(optimizer.param_groups, groups):  # the state brings settings of its own run
            group.update(weight_decay=now['weight_decay'], betas=(beta1, beta2), fused=True)
    return optimizer


def get_lr(step):
    """Linear warm-up, cosine decay, then min_lr."""
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if not decay_lr:
        return learning_rate
    progress = min(1.0, (step - warmup_iters) / max(1, lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (learning_rate - min_lr)


def autocast():
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16) if dtype == 'bfloat16' else nullcontext()


def step_loss(model, batches, step):
    x, targets, pos = batches.get(step, device)
    return model(x, targets, pos=pos)[1]


@torch.no_grad()
def estimate_loss(model, splits):
    """Mean loss of eval_iters batches of each split, the same batches each time."""
    model.eval()
    losses = {}
    for name, batches in splits.items():
        with autocast():
            total = sum(step_loss(model, batches, 10**9 + i).item() for i in range(eval_iters))
        losses[name] = total / eval_iters
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
    check_finite(total, 'loss', step)
    if grad_clip > 0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def check_finite(loss, which, step):
    """Raises ValueError where training went astray: what comes after is no better, and must not be kept."""
    if not math.isfinite(loss):
        clip = 'grad_clip' if grad_clip > 0 else 'grad_clip (now off)'
        raise ValueError(f"the {which} of step {step} is {loss}, training stops: lower learning_rate "
                         f"({learning_rate:g}) or {clip}. Checkpoints in {out_dir} are from before, nothing "
                         "is exported")


def train(model, optimizer, splits, checkpoint, report):
    """Trains to max_iters -> the seconds it took, with those before. report: gets {name: number}."""
    first, best = checkpoint.get('iter_num', 0), float(checkpoint.get('best_val_loss', math.inf))
    started = time.time() - checkpoint.get('seconds', 0)
    fast = torch.compile(model) if compile else model
    progress = tqdm(range(first, max_iters + 1), initial=first, total=max_iters, mininterval=5)
    for step in progress:
        if step % eval_interval == 0 or step == max_iters:
            losses = evaluate(fast, splits, step)
            log(describe(step, losses))
            named = {f'{split}/loss': loss for split, loss in losses.items()}
            report({'iter': step, 'lr': get_lr(step), **named})
            is_best = losses['val'] < best
            best = min(best, losses['val'])
            state = {'model': model.state_dict(), 'optimizer': optimizer.state_dict(),
                     'model_args': vars(model.config), 'iter_num': step, 'best_val_loss': best,
                     'seconds': time.time() - started,
                     'config': {**config, 'init_from': begun_from(checkpoint, init_from)}}
            save(state, ['ckpt.pt', 'last.pt'] if is_best or always_save_checkpoint else ['last.pt'])
        if step == max_iters:
            break
        loss = train_step(fast, optimizer, splits['train'], step)
        if step % log_interval == 0:
            progress.set_postfix(loss=f'{loss:.3f}')
    return time.time() - started


def evaluate(model, splits, step):
    losses = estimate_loss(model, splits)
    for split, loss in losses.items():
        check_finite(loss, f'{split} loss', step)
    return losses


def describe(step, losses):
    return (f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, "
            f"lr {get_lr(step):.2e}")


def save(state, names):
    """Writes out_dir/name whole or not at all, in nanoGPT's format."""
    for name in names:
        with whole_files(out_dir) as beside:
            torch.save(state, os.path.join(beside, name))


def log(line):
    tqdm.write(line)
    with open(os.path.join(out_dir, 'log.txt'), 'a') as f:
        f.write(line + '\n')


def export(seconds, tokens):
    """The best checkpoint as a folder in Hugging Face format, half precision, with its tokenizer and log."""
    path = os.path.join(out_dir, 'ckpt.pt')
    best = read_checkpoint(path)
    if best['iter_num'] == 0:
        raise ValueError(f"no evaluation was better than that of step 0 ({best['best_val_loss']:.4f}), "
                         f"before any training: nothing is exported, {out_dir}/last.pt holds the last step; "
                         "change learning_rate or max_iters")
    GPT.from_checkpoint(path).save_pretrained(export_dir, dtype=torch.float16)
    log(f"trained {max_iters} steps, {tokens:,} tokens, {seconds / 60:.0f} minutes on {machine()}, "
        f"torch {torch.__version__}; exported step {best['iter_num']}")
    with open(os.path.join(out_dir, 'log.txt')) as f:
        lines = f.readlines()[-12:]
    tokenizer = tokenizer_files(DATA, begun_from(best, init_from))
    if not tokenizer:
        log(f"note: there is no tokenizer to export, put one into {export_dir} unless it is GPT-2's own")
    with whole_files(export_dir) as beside:
        for file in tokenizer:
            shutil.copy(file, beside)
        with open(os.path.join(beside, 'train_log.txt'), 'w') as f:
            f.writelines(lines)


def machine():
    if device.startswith('cuda'):
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"


def check_settings():
    for name in ('eval_interval', 'log_interval', 'eval_iters', 'batch_size', 'gradient_accumulation_steps',
                 'block_size', 'n_layer', 'n_head', 'n_embd', 'vocab_size', 'max_iters'):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}, expected 1 or more")
    if not 0 <= restart_positions <= 1:
        raise ValueError(f"restart_positions is {restart_positions}, expected 0 to 1")
    if not 0 <= dropout < 1 or not 0 <= seed < 2**63:
        raise ValueError(f"dropout is {dropout}, expected 0 to 1; seed is {seed}, expected a whole number "
                         "from 0 on")
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
    use_threads(threads)
    is_logged = wandb_log and not eval_only
    report = start_wandb(wandb_project, wandb_run_name, config).log if is_logged else lambda numbers: None
    torch.manual_seed(seed)
    model, checkpoint = make_model()
    check_dataset(DATA, model.config.vocab_size, begun_from(checkpoint, init_from))
    set_dropout(model)
    model.to(device).train()
    splits = make_splits(model.config)
    if eval_only:
        step = checkpoint.get('iter_num', 0)
        print(describe(step, evaluate(model, splits, step)))
        return
    os.makedirs(out_dir, exist_ok=True)
    optimizer = make_optimizer(model, checkpoint.get('optimizer'))
    log(f"{model.get_num_params():,} parameters, {len(splits['train'].tokens):,} training tokens, "
        f"{machine()}")
    seconds = train(model, optimizer, splits, checkpoint, report)
    if export_dir:
        rows = max_iters * batch_size * gradient_accumulation_steps
        export(seconds, rows * splits['train'].rows.block_size)


if __name__ == '__main__':
    with one_line_errors('--init_from=resume goes on from the last checkpoint'):
        main()
