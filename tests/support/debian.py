"""A Debian in a directory, made by debootstrap, in which programs run as in a machine that was just installed.

It takes root, debootstrap and a mirror of Debian. What was made is kept as archives, in the folder that
UDPTRACKER_DEBIAN names or where temporary files are, so that the next is made of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

RELEASES: Final = ("bookworm", "trixie")
"""Debian 12, whose Python is 3.11, and 13, whose Python is 3.13."""

_MIRROR: Final = "http://deb.debian.org/debian"
_TRIES: Final = 3
_CERTIFICATES: Final = "/etc/ssl/index.pem"
_APT: Final = 'Acquire::Retries "5"; Acquire::Languages "none"; Dpkg::Use-Pty "0";'
_SPECIAL: Final = ("/dev", "/proc", "/sys")


def why_not() -> str:
    """Why none can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "it takes root"
    return "" if shutil.which("debootstrap") else "there is no debootstrap"


class Debian:
    """One in `folder`, which is removed at the end of `with`.

    Args:
        folder: where it is made; not there yet.
        release: see `RELEASES`.
        packages: installed beside the smallest set there is.
    """

    def __init__(self, folder: Path, release: str, packages: Sequence[str] = ()) -> None:
        self.folder = folder
        self.release = release
        self._packages = tuple(packages)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        run(["tar", "-xf", str(self._archive()), "-C", str(self.folder)])
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def copy(self, folder: Path) -> Debian:
        """The same once more, as it is now."""
        run(["cp", "-a", str(self.folder), str(folder)])
        return Debian(folder, self.release, self._packages)

    def settle(self) -> None:
        """Let it reach names and the package index as they are reached from here, and bear with a slow mirror."""
        self.path("/etc/apt/apt.conf.d/90retries").write_text(_APT)
        for name in ("/etc/resolv.conf", "/etc/pip.conf"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(name, self.folder / name.lstrip("/"))
        certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
        if certificates:
            self.path(_CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(certificates, self.path(_CERTIFICATES))

    def path(self, inside: str) -> Path:
        """Where a path of it is from here."""
        return self.folder / inside.lstrip("/")

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command in it prints; it shares this machine's network."""
        return run([*self._enter(), *command], environment={**self.environment, **(environment or {})})

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """A command in it in the background; what it prints goes to a file."""
        with log.open("wb") as out:
            return subprocess.Popen([*self._enter(), *command], env=self.environment, stdout=out, stderr=out)

    def install(self, *packages: str) -> None:
        """Packages of the release, or packages that lie in it, by their paths."""
        names = " ".join(packages)
        self.run(
            "sh",
            "-ec",
            f"for try in {' '.join(map(str, range(_TRIES)))}; do apt-get -qq update"
            f" && apt-get -qq install -y --no-install-recommends {names} && exit; sleep 5; done; exit 1",
        )

    @property
    def environment(self) -> dict[str, str]:
        """Of programs in it: nothing of this machine's but how the package index is reached."""
        found = {
            name: os.environ[name]
            for name in ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
            if name in os.environ
        }
        if self.path(_CERTIFICATES).exists():
            found |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), _CERTIFICATES)
        return found | {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_RETRIES": "10",
            "PIP_DEFAULT_TIMEOUT": "60",
        }

    def _enter(self) -> list[str]:
        """In a mount namespace of its own, so that nothing stays mounted."""
        mounts = [f"mount --rbind {name} {self.folder}{name}" for name in _SPECIAL]
        script = " && ".join([*mounts, f'exec chroot {self.folder} "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "enter"]

    def _archive(self) -> Path:
        kept = os.environ.get("UDPTRACKER_DEBIAN") or tempfile.gettempdir()
        name = "-".join(["udptracker", self.release, *self._packages])
        archive = Path(kept) / f"{name}.tar"
        if archive.exists():
            return archive
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            made = Path(scratch) / "root"
            include = [f"--include={','.join(self._packages)}"] if self._packages else []
            command = ["debootstrap", "--variant=minbase", *include, self.release, str(made), _MIRROR]
            for attempt in range(_TRIES):
                try:
                    run(command)
                    break
                except AssertionError:
                    if attempt + 1 == _TRIES:
                        raise
                    shutil.rmtree(made, ignore_errors=True)
            shutil.rmtree(made / "var/cache/apt/archives")
            written = Path(scratch) / archive.name
            run(["tar", "-cf", str(written), "-C", str(made), "."])
            written.rename(archive)
        return archive


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, check: bool = True) -> str:
    """What a command prints on standard output.

    Raises:
        AssertionError: with all that it printed, if it fails.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
