"""`python -m gpt2_ablations COMMAND`, and `gpt2-ablations COMMAND` where the package is installed."""

import os
import sys

if __name__ == "__main__" and sys.path[:1] == [os.getcwd()]:
    # A file of the user's named random.py, say, must not hide a module of that name. Python has these two loaded.
    del sys.path[0]

import gc
import signal

# Huge pages for large buffers: fewer page faults where every step allocates its activations. torch reads it once.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def run() -> None:
    """Run the command of `sys.argv` and exit with its code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C while libraries are imported ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _end)
    code = main()
    # At its exit Python looks for garbage among the objects of all libraries: with torch's that takes a second or two.
    gc.freeze()
    sys.exit(code)


def _end(number: int, frame: object) -> None:
    """End at a signal as a program without a handler does, but leave no unfinished file.

    An exception instead would pass through libraries that print or swallow it.
    """
    from .common.files import remove_unfinished

    remove_unfinished()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    run()
