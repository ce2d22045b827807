"""What a build makes of the command line: the man page and the completions of shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from udptracker import __version__
from udptracker.cli import COMMANDS

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory `share` of a build."""
    base = tmp_path_factory.mktemp("build")
    run = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(base), "build", "--build-base", str(base)]
    environment = os.environ | {"UDPTRACKER_PURE": "1"}
    subprocess.run(run, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=120)
    return base / "share"


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
