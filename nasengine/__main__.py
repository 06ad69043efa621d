"""Where `nas` and `python -m nasengine` begin: Ctrl-C is answered even while the command line is being imported."""

import os
import sys


def main() -> None:
    # threads that wait asleep, not spinning: where others use the cores too, spinning slows small networks tenfold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        print("\nnas: interrupted; nothing had begun.", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
