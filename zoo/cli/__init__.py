"""The command line: one program, `zoo`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from zoo.cli.app import run

    sys.exit(run())
