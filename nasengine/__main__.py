"""Where `nas` and `python -m nasengine` begin: Ctrl-C is answered even while the command line is being imported."""

import sys


def main() -> None:
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        print("\nnas: interrupted; nothing had begun.", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
