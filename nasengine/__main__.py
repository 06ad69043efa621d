"""Where `nas` and `python -m nasengine` begin: Ctrl-C is answered even while the command line is being imported."""

import os
import sys


def main() -> None:
    # threads that wait asleep, not spinning: where others use the cores too, spinning slows small networks tenfold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_streams()
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        print("\nnas: interrupted; nothing had begun.", file=sys.stderr)
        sys.exit(130)
    command()


def _open_streams() -> None:
    """Standard streams that were closed lead nowhere: else the next file opened, the record, would take their place."""
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: that of the stream that is closed
            setattr(sys, name, open(handle, "w" if handle else "r", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
