"""
Ctrl-C while a script imports, and when its job begins. In force from the import of this file on: it comes
before all others.
"""
import os
import signal
import sys


def stop_at_once(*_):
    """Ctrl-C until the job begins, while a script imports for seconds. An exception could be lost or
    wrapped on its way through the imports of C libraries, and there is nothing yet to clean up."""
    try:
        os.write(2, b'error: interrupted\n')
    finally:  # stderr may be closed
        os._exit(130)


def stop_from_here():
    """Ctrl-C stops at once, unless somebody has said otherwise: nohup has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:
            signal.signal(signal.SIGINT, stop_at_once)
        except ValueError:  # only the main thread may say what a signal does, and only it is interrupted
            pass


def raise_from_here():
    """Ctrl-C raises KeyboardInterrupt, as Python has it."""
    if signal.getsignal(signal.SIGINT) is stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if hasattr(sys.modules['__main__'], '__file__'):  # a notebook would lose what it holds
    stop_from_here()
