"""
The memory of this process.
"""
import contextlib
import platform
import resource


def resident(field='VmHWM'):
    """MB of this process at its peak, or for 'VmRSS' now where there is /proc."""
    # there: a child's ru_maxrss begins with its parent's
    with contextlib.suppress(OSError), open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field)) / 1024
    unit = 2**20 if platform.system() == 'Darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
