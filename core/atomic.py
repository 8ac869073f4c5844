"""
Files that are written whole or not at all.
"""
import contextlib
import fcntl
import glob
import os
import shutil
import tempfile

PART = '.part-'  # begins the name of a folder that is being written


@contextlib.contextmanager
def whole_files(folder, replace=True):
    """Yields an empty folder beside; what was written there when the block ends well is moved into `folder`,
    else it is dropped.

    Each file is on the disk before it takes the place of an older one; replace: False raises FileExistsError
    where a name is taken by then, whoever was first. Makes `folder` where it is missing, and sweeps away
    what a killed writer left there. Raises OSError, also for what torch or safetensors raise when they
    cannot write.
    """
    beside, lock = make_beside(folder)
    try:
        yield beside
        mode = mode_of_new_files(beside)
        for name in sorted(os.listdir(beside)):
            part = os.path.join(beside, name)
            os.chmod(part, mode)  # some libraries make files for their owner alone
            fsync(part)
            move(part, os.path.join(folder, name), replace)
        fsync(folder)
    except OSError:
        raise
    except Exception as error:
        if not cannot_write(error):
            raise
        raise OSError(f"{folder} could not be written to ({error}): "
                      "free some space, or name another place") from None
    finally:
        os.close(lock)
        shutil.rmtree(beside, ignore_errors=True)


def write_files(folder, files):
    """{name: text or bytes} -> the files, each whole, texts in UTF-8. Raises as whole_files."""
    with whole_files(folder) as beside:
        for name, content in files.items():
            with open(os.path.join(beside, name), 'wb') as f:
                f.write(content if isinstance(content, bytes) else content.encode())


def move(part, path, replace):
    if replace:
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike a check before, fails where another writer was quicker
    except FileExistsError:
        raise FileExistsError(f"{path} exists by now, another process wrote it: name another file") from None


def cannot_write(error):
    """Whether this is how torch or safetensors say that a file could not be written.

    Other errors of theirs keep their cause.
    """
    if type(error).__name__ == 'SafetensorError':
        return True
    torch_says = 'PytorchStreamWriter', 'inline_container', 'open file', 'Parent directory'
    return isinstance(error, RuntimeError) and any(words in str(error) for words in torch_says)


def make_beside(folder):
    """-> the path of a new folder in `folder`, and a descriptor that holds it locked: whoever is killed lets
    go of it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with locked(folder):  # nobody sweeps between making and locking
            sweep(folder)
            beside = tempfile.mkdtemp(prefix=PART, dir=folder)
            lock = os.open(beside, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return beside, lock
    except OSError as error:
        raise type(error)(f"nothing can be written to the folder {folder!r} ({error.strerror}): "
                          "name another place, or change its permissions") from None


@contextlib.contextmanager
def locked(folder):
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sweep(folder):
    """Removes what killed writers left: the parts that nobody holds locked."""
    for part in glob.glob(os.path.join(glob.escape(folder), PART + '*')):
        with contextlib.suppress(OSError):  # another's, or gone
            fd = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(part)
            finally:
                os.close(fd)


def folder_of(path):
    """The folder that a file is in. Raises IsADirectoryError when the path is itself a folder."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: name a file to write")
    return os.path.dirname(path) or '.'


def mode_of_new_files(folder):
    """The permissions that this process gives a file: read off one, since asking for the umask sets it."""
    path = os.path.join(folder, PART + 'mode')
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        return os.fstat(fd).st_mode & 0o777
    finally:
        os.close(fd)
        os.unlink(path)


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
