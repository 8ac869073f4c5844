"""
Models by name: the hub's cache on this disk, and the hub itself, asked only for what the cache has not.
"""
import os


def cached_folder(name, *files):
    """The folder of the cache that holds any of these files of a model, or ''."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    try:
        found = [try_to_load_from_cache(name, file) for file in files]
    except HFValidationError:  # no name that a hub could have
        return ''
    return next((os.path.dirname(path) for path in found if isinstance(path, str)), '')


def list_files(name, what='model'):
    """The names of all files of a model on the hub. A FileNotFoundError says what was wanted."""
    import huggingface_hub
    huggingface_hub.logging.set_verbosity_error()  # what goes wrong is raised, in one line
    try:
        # fails at once where a download would retry for half a minute
        return [file.rfilename for file in huggingface_hub.HfApi().model_info(name, timeout=20).siblings]
    except Exception as error:  # the hub's client raises a dozen types
        raise told(name, error, what) from None


def fetch(name, files, revision=None, what='model'):
    """-> the folder of the cache that holds these files, fetched where they are missing.

    Raises OSError kinds.
    """
    import huggingface_hub
    huggingface_hub.utils.disable_progress_bars()
    try:
        paths = [huggingface_hub.hf_hub_download(name, file, revision=revision) for file in files]
    except Exception as error:
        raise told(name, error, what) from None
    return os.path.dirname(paths[0])


def told(name, error, what):
    """An error of the hub's client -> one that says which of its many causes it is, and the way out."""
    from huggingface_hub import errors
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return error  # of this machine's disk
    unreachable = ("there is no such folder, the hub's cache does not hold it, and the hub cannot be "
                   "reached: connect to a network, or take 'smollm2' or assets/tinyworld, which need none")
    reasons = [
        (errors.LocalEntryNotFoundError, unreachable),
        (errors.HFValidationError, "there is no such folder, and the hub has no such names (expected "
                                   "'owner/name')"),
        (errors.OfflineModeIsEnabled, "there is no such folder, the hub's cache does not hold it, and "
                                      "HF_HUB_OFFLINE forbids to fetch it"),
        (errors.GatedRepoError, "its owner asks for consent: accept the terms on its page of the hub, then "
                                "run hf auth login"),
        (errors.RepositoryNotFoundError, "there is no such folder, and no such model on the hub (a private "
                                         "one needs hf auth login)"),
        (errors.EntryNotFoundError, "the hub lacks one of its files"),
    ]
    reason = next((reason for kind, reason in reasons if isinstance(error, kind)), unreachable)
    return FileNotFoundError(f"no {what} could be loaded from {name!r}: {reason} [{type(error).__name__}]")
