"""examples/timm: a network of timm that tells what real photos show, from scratch and without a network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ANY_PORTS
from PIL import Image

from builder.build.run import build_repository, resolve
from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS
from builder.manifest.models import load_manifest
from client import Client

EXAMPLES = Path(__file__).parent.parent / "examples"
SHOWN = {"chelsea.jpg": ("Egyptian cat", "tabby", "tiger cat"), "coffee.jpg": ("espresso", "cup", "eggnog")}


@pytest.mark.slow
def test_the_example_tells_what_photos_show(tmp_path: Path) -> None:
    """Half a minute: two models of a real network are built, and verified with thirty pictures."""
    shutil.copytree(EXAMPLES / "timm", tmp_path / "timm", ignore=shutil.ignore_patterns("*.pth"))
    for name in ("lite0.py", "photo_sets.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    subprocess.run([sys.executable, "timm/convert.py"], cwd=tmp_path, check=True, timeout=120)
    entries = resolve(load_manifest(tmp_path / "timm" / "models.yaml"))
    outcome = build_repository(entries, tmp_path / "repository")
    assert [model.name for model in outcome.built] == ["timm_photos", "timm_vectors"], outcome.failed
    running = LAUNCHERS["embedded"].launch(tmp_path / "repository", ANY_PORTS)
    try:
        with Client(running.endpoints.grpc) as client:
            for name, likely in SHOWN.items():
                best = client.classify(SAMPLES / name, "timm_photos", top=1)[0]
                assert best.label.partition(",")[0] in likely
                assert best.probability > 0.3
            photo = Image.open(SAMPLES / "coffee.jpg")
            photo.crop((40, 30, photo.width - 20, photo.height - 20)).save(tmp_path / "part.png")
            files = (SAMPLES / "coffee.jpg", tmp_path / "part.png", SAMPLES / "chelsea.jpg")
            whole, part, other = (client.embed(path, "timm_vectors") for path in files)
    finally:
        running.stop()
    assert whole @ part > 0.7 > whole @ other
