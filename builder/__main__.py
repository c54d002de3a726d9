"""The program's first steps: a signal finds a handler while the rest is imported."""

import sys

from builder.machine import signals


def main() -> None:
    try:
        signals.listen()
        from builder.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signals.hold()


if __name__ == "__main__":
    main()
