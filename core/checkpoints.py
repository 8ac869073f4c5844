"""
Going on from a checkpoint of train.py or nanoGPT.
"""
import os
import sys

from core.weights import read_checkpoint


def checkpoint_to_resume(out_dir, needed, max_iters):
    """-> the path of last.pt, or of nanoGPT's ckpt.pt where that is all there is, and the checkpoint in it.

    needed: names of what it must hold. Raises ValueError that says how to go on otherwise, OSError kinds.
    """
    last, best = (os.path.join(out_dir, name) for name in ('last.pt', 'ckpt.pt'))
    path = last if os.path.lexists(last) or not os.path.lexists(best) else best
    checkpoint = read_checkpoint(path)
    missing = [name for name in needed if name not in checkpoint]
    if missing:
        folder = os.path.join(out_dir, 'model')
        raise ValueError(f"{path} cannot be resumed, it holds no {missing[0]!r}: write its weights to a "
                         "folder, python -c \"from model import GPT; "
                         f"GPT.from_checkpoint('{path}').save_pretrained('{folder}')\", and finetune that "
                         f"with --init_from={folder}")
    if checkpoint.get('iter_num', 0) > max_iters:
        raise ValueError(f"{path} is at step {checkpoint['iter_num']}, max_iters is {max_iters}: raise "
                         "max_iters")
    if path == best:
        print(f"note: no {last}, going on from {best}", file=sys.stderr)
    return path, checkpoint


def begun_from(checkpoint, init_from):
    """What the first of a chain of resumed runs began from: its tokenizer is the model's."""
    config = checkpoint.get('config')
    return config.get('init_from', 'scratch') if isinstance(config, dict) else init_from
