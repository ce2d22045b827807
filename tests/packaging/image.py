"""The image, made step by step in directories and run as an engine would.

Run as `install.py` is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.container import Container
from tests.packaging.containerfile import Image
from tests.support import debian
from tests.support.waiting import eventually

REPOSITORY: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    assert not debian.why_not(), f"no image can be made here: {debian.why_not()}"
    with Image(REPOSITORY / "Containerfile", tmp_path_factory.mktemp("image")) as made:
        yield made


def test_it_serves_and_says_that_it_is_well(image: Image, tmp_path: Path) -> None:
    with Container(image, tmp_path / "log") as container:
        assert not container.succeeds(*image.health_check), "nobody is there yet to be well"
        container.start(image.command)
        eventually(lambda: container.succeeds(*image.health_check), "the health check")
        assert container.run("id", "-u") == "10001\n"
        for place in ("/", "/tmp/", "/opt/udptracker/", "/var/tmp/"):
            assert not container.succeeds("touch", f"{place}anything"), place
        assert "(compiled)" in container.run("udptracker", "-V")
        assert container.stop() == 0, container.log
        assert "Traceback" not in container.log


def test_the_image_has_what_it_needs_and_no_more(image: Image) -> None:
    assert not any(image.root.path(f"/usr/bin/{name}").exists() for name in ("gcc", "cc", "pip"))
    assert not list(image.root.path("/opt/udptracker/bin").glob("pip*"))
    size = subprocess.run(["du", "-sm", image.root.folder], capture_output=True, text=True, check=True).stdout
    print(f"\nthe image is {size.split()[0]} MB, of which the tracker is ", end="")
    print(subprocess.run(["du", "-sm", image.root.path("/opt")], capture_output=True, text=True, check=True).stdout)
