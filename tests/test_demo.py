import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


def test_demo_serves_what_pytorch_computes() -> None:
    finished = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, check=False, timeout=540)
    assert finished.returncode == 0, finished.stderr
    served, direct = re.findall(r"accuracy, .*? ([\d.]+)%", finished.stdout)
    assert served == direct
    assert float(served) >= 97
    assert "p99" in finished.stdout
    assert "images/s" in finished.stdout
    assert "is a zero:" in finished.stdout
