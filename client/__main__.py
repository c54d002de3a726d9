"""The program's first steps: a signal finds a handler while the rest is imported."""

from client import signals


def main() -> None:
    signals.of_process().listen()
    from client.cli import main as run

    run()


if __name__ == "__main__":
    main()
