"""
A run of Weights & Biases to log to, or one line that says what is missing.
"""


def start_wandb(project, name, config):
    """-> the run. Raises ValueError where wandb cannot start one: not installed, no key, no network.

    Called before a model is made: nobody waits for minutes of loading to learn that a key is missing.
    """
    ways_out = "run `wandb login` once, set WANDB_MODE=offline to log on this disk, or leave wandb_log False"
    try:
        import wandb  # here, for it takes a second that most runs need not wait
    except ImportError:
        raise ValueError(f"wandb_log is True, but there is no wandb: install it, then {ways_out}") from None
    try:
        return wandb.init(project=project, name=name, config=config)
    except (wandb.errors.Error, TimeoutError) as error:
        told = ' '.join(str(error).split())
        raise ValueError(f"wandb_log is True, but wandb started no run ({told}): {ways_out}") from None
