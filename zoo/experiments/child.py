"""Runs a zoo command that ends by itself when the program that started it is gone.

``python -m zoo.experiments.child PID train ...``: a job must not go on unseen when the
driver was killed, since the one that resumes it would train in the same folder.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

LOOK_S, PATIENCE_S = 0.5, 60.0


def main() -> None:
    """Run the command line in ``sys.argv`` after the number of the parent."""
    parent = int(sys.argv[1])
    sys.argv = ["zoo", *sys.argv[2:]]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from zoo.cli.app import run

    sys.exit(run())


def _end_with(parent: int) -> None:
    """Press Ctrl-C when the parent is gone; end everything if that does not help."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
