"""
Texts shared out to be remembered: share after share in this process, or as tasks of a Ray cluster.

A share is as many texts in a row as make one segment of a library, whoever runs them, so that the library is
the same whatever the engine, and wherever a build was interrupted.
"""

import torch

from core import stored
from core.rows import Header
from load import loaded
from memory import PersistentMemory

# a share's rows in float32: what an interrupted build does again, some minutes at most; and its tokens
BYTES_A_SHARE, TOKENS_A_SHARE = 2**28, 2**16


def shares_of(entries, tokens, memory):
    """Entries of texts and the tokens of each -> lists of them, in order."""
    bytes_a_token = sum(some[0].size(0) * some[0].size(2) * 4 for some in memory.held.parts.values())
    most, share, filled = min(TOKENS_A_SHARE, BYTES_A_SHARE // bytes_a_token), [], 0
    for entry, count in zip(entries, tokens):
        if share and filled + count > most:
            yield share
            share, filled = [], 0
        share.append(entry)
        filled += count
    if share:
        yield share


def remember_share(entries, job, done=lambda tokens: None):
    """A share's texts through the model -> tensors and metadata of a memory file (core/stored.py).

    job: what all shares have in common, {'model': arguments of load_model, 'description', 'header',
    'threads'}.
    """
    if job['threads']:
        torch.set_num_threads(job['threads'])
    model, tokenizer = loaded(*job['model'])
    memory = PersistentMemory.of(job['description'])
    memory.add_entries(model, entries, tokenizer, Header(*job['header']), done)
    return stored.file_of(memory.description(), memory.held, list(range(len(entries))))


def in_process(shares, job, done):
    for share in shares:
        yield remember_share(share, job, done)


def on_ray(shares, job, done):
    """As in_process, as tasks of a Ray cluster, whose results come back in order. A share whose worker is
    lost runs again."""
    from lab.runs import check_cluster, ray_running  # here, for it imports all of the laboratory
    with ray_running({'init_from': job['model'][0]}) as ray:
        threads = job['threads'] or torch.get_num_threads()
        gpus = int(job['model'][2].startswith('cuda'))
        check_cluster(ray, threads, gpus)
        task = ray.remote(remember_share).options(num_cpus=threads, num_gpus=gpus, max_retries=3)
        # as many at once as the cluster has room for, and as many that wait: results are large
        most, waiting = 2 * int(ray.cluster_resources()['CPU'] // threads), []
        for share in shares:
            waiting.append(task.remote(share, {**job, 'threads': threads}))
            if len(waiting) > most:
                yield fetched(ray, waiting.pop(0), done)
        while waiting:
            yield fetched(ray, waiting.pop(0), done)


def fetched(ray, result, done):
    tensors, metadata = ray.get(result)
    done(len(tensors['tokens']))
    # Ray's own may not be written to
    return {name: tensor.clone() for name, tensor in tensors.items()}, metadata


ENGINES = {'process': in_process, 'ray': on_ray}
