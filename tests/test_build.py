"""What a build makes of the command line, and the files that it packs, which are copied out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from udptracker import __version__
from udptracker.cli import COMMANDS

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a build."""
    base = tmp_path_factory.mktemp("build")
    run = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(base), "build", "--build-base", str(base)]
    environment = os.environ | {"UDPTRACKER_PURE": "1"}
    subprocess.run(run, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=120)
    return base


@pytest.fixture(scope="module")
def share(built: Path) -> Path:
    return built / "share"


def test_the_man_page_tells_of_every_command(share: Path) -> None:
    text = (share / "man" / "man1" / "udptracker.1").read_text().replace("\\", "")
    assert f'"udptracker {__version__}"' in text.splitlines()[0]
    assert "udptracker - a UDP BitTorrent tracker" in text
    for command in COMMANDS:
        assert f"'udptracker {command}'" in text, command


def test_bash_completes_commands_flags_and_choices(share: Path) -> None:
    """In a real bash, as its completion calls it."""
    file = share / "bash-completion" / "completions" / "udptracker"
    script = f"""
        source {file}
        complete_line() {{
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _shtab_udptracker; echo "${{COMPREPLY[@]}}"
        }}
        complete_line udptracker s
        complete_line udptracker announce --ev
        complete_line udptracker announce --event st
    """
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, timeout=60)
    commands, flags, choices = (line.split() for line in done.stdout.splitlines())
    assert commands == [command for command in COMMANDS if command.startswith("s")]
    assert flags == ["--event"]
    assert set(choices) == {"started", "stopped"}


def test_zsh_is_told_of_every_command(share: Path) -> None:
    text = (share / "zsh" / "site-functions" / "_udptracker").read_text()
    assert text.startswith("#compdef udptracker")
    assert all(f"    {command}:'" in text for command in COMMANDS)


def test_the_whole_command_line_is_there_without_other_packages() -> None:
    """So that a build, which has none of them, can be made."""
    program = """if True:
        import sys
        from udptracker.cli import parser
        parser()
        files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
        print(*[file for file in files if "-packages" in file and "udptracker" not in file])
    """
    run = [sys.executable, "-S", "-c", program]
    done = subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "\n"


def copied(package: Path, to: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`udptracker files` with the code that lies in a directory."""
    run = [sys.executable, "-m", "udptracker", "files", "--to", str(to), *flags]
    return subprocess.run(run, cwd=package, capture_output=True, text=True, check=False, timeout=60)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def in_the_repository() -> dict[str, bytes]:
    folders = ("systemd", "configs")
    return {f"{folder}/{name}": found for folder in folders for name, found in contents(REPOSITORY / folder).items()}


def test_the_files_of_a_build_are_copied_out(built: Path, tmp_path: Path) -> None:
    done = copied(built / "lib", tmp_path)
    assert done.returncode == 0, done.stderr
    made = {f"share/{name}": text for name, text in contents(built / "share").items()}
    assert len(made) == 3
    assert contents(tmp_path) == in_the_repository() | made
    assert sorted(done.stdout.splitlines()) == sorted(str(tmp_path / name) for name in contents(tmp_path))


def test_a_checkout_copies_its_own(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for folder in ("udptracker", "systemd", "configs"):
        shutil.copytree(REPOSITORY / folder, checkout / folder)
    shutil.rmtree(checkout / "udptracker" / "files", ignore_errors=True)  # of a wheel that lies over the checkout
    assert copied(checkout, tmp_path / "to" / "here").returncode == 0
    assert contents(tmp_path / "to" / "here") == in_the_repository()


def test_no_file_is_written_over_unless_forced(built: Path, tmp_path: Path) -> None:
    mine = tmp_path / "configs" / "minimal.yaml"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = copied(built / "lib", tmp_path)
    assert done.returncode == 1
    assert "configs/minimal.yaml (--force" in done.stderr
    assert contents(tmp_path) == {"configs/minimal.yaml": b"mine"}, "all or nothing"
    assert copied(built / "lib", tmp_path, "--force").returncode == 0
    assert mine.read_bytes() == in_the_repository()["configs/minimal.yaml"]


def test_a_link_in_the_way_counts_as_a_file(built: Path, tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "udptracker.service").symlink_to("/nonexistent")
    assert copied(built / "lib", tmp_path).returncode == 1


def test_where_nothing_can_be_written_it_says_so(built: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = copied(built / "lib", tmp_path / "file" / "below")
    assert done.returncode == 1
    assert done.stderr.startswith(f"udptracker: {tmp_path}")
    assert "Traceback" not in done.stderr
