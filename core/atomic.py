"""
Files that are written whole or not at all.
"""
import contextlib
import os
import shutil
import tempfile


@contextlib.contextmanager
def whole_files(folder):
    """Yields an empty folder beside; what was written there when the block ends well is moved into `folder`, else it is dropped.

    Each file is on the disk before it takes the place of an older one. Makes `folder` where it is missing. Raises OSError, also
    for what torch or safetensors raise when they cannot write.
    """
    beside = make_beside(folder)
    try:
        yield beside
        for name in os.listdir(beside):
            part = os.path.join(beside, name)
            os.chmod(part, 0o666 & ~current_umask())  # some libraries make files for their owner alone
            fsync(part)
            os.replace(part, os.path.join(folder, name))
        fsync(folder)
    except OSError:
        raise
    except Exception as error:
        if type(error).__name__ not in ('SafetensorError', 'RuntimeError'):
            raise
        raise OSError(f"{folder} could not be written to ({error}): free some space, or name another place") from None
    finally:
        shutil.rmtree(beside)


def make_beside(folder):
    try:
        os.makedirs(folder, exist_ok=True)
        return tempfile.mkdtemp(prefix='.part-', dir=folder)
    except OSError as error:
        raise type(error)(f"nothing can be written to the folder {folder!r} ({error.strerror}): name another place, "
                          "or change its permissions") from None


def folder_of(path):
    """The folder that a file is in. Raises IsADirectoryError when the path is itself a folder."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: name a file to write")
    return os.path.dirname(path) or '.'


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
