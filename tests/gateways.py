"""Gateways in processes of their own, as users start them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from processes import started


@contextmanager
def gateway(triton: str, *options: str, code: int = 0) -> Iterator[str]:
    """Its address. Afterwards it is stopped by SIGTERM, and must end with `code`."""
    command = [sys.executable, "-m", "client.cli", "gateway", "--url", triton, "--port", "0", "--json", *options]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == code
