"""The whole way, as a user goes it: digits are trained, photos are named, and each is built, served, asked, stopped."""

import sys
import time

from parts import digits, photos

from builder.machine import signals


def main() -> int:
    signals.listen()
    started = time.perf_counter()
    print("=== digits: train, build, serve, ask ===\n", flush=True)
    wrong = digits.show()
    print("\n=== photos: EfficientNet-Lite0 with its ImageNet weights, fp32 and int8 ===\n", flush=True)
    wrong += photos.show()
    print(f"\nboth parts took {time.perf_counter() - started:.0f} s")
    for fault in wrong:
        print(f"WRONG: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
