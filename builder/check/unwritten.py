"""A Python for the stubs that run models' code, which leaves no __pycache__ beside it.

The stub imports a model before anything that is not the model's, and heeds no environment; but it is at home where
the first python3 on PATH is, and what `site` finds there comes first.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path


def laid_out(folder: Path) -> Path:
    """The folder for PATH, in a new one: the packages are this environment's."""
    programs = folder / "bin"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    programs.mkdir(parents=True)
    packages.mkdir(parents=True)
    base = Path(os.path.realpath(sys.executable))
    (programs / "python3").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    lines = ["import sys; sys.dont_write_bytecode = True"]
    lines += [f"import site; site.addsitedir({place!r})" for place in site.getsitepackages() if Path(place).is_dir()]
    (packages / "unwritten.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return programs
