"""Programs in Go for the tests, built with the packages that Debian has.

Building takes most of a minute, so a program lies in the user's cache, beside the newer root, under a hash of its sources;
a copy lies in the checkout, where the newer root and the guest, which have no Go, see it, too.

    python tests/support/go_program.py      builds all
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
IMPORTED = Path("/usr/share/gocode")


def cache() -> Path:
    """Where what this user built is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "ocishim")


@dataclass(frozen=True)
class GoProgram:
    """The sources beside this file in the folder ``name``, with - as _; ``needs`` is what they import from Debian."""

    name: str
    needs: str

    @property
    def source(self) -> Path:
        return Path(__file__).with_name(self.name.replace("-", "_"))

    def key(self) -> str:
        content = hashlib.sha256()
        for path in sorted(self.source.glob("*.go")):
            content.update(path.read_bytes())
        return content.hexdigest()[:12]

    def places(self) -> list[Path]:
        name = f"{self.name}-{self.key()}"
        return [CHECKOUT / ".make" / name, cache() / name]

    def is_there(self) -> bool:
        """Whether it is built, or can be."""
        can_be = shutil.which("go") and (IMPORTED / "src" / self.needs).exists()
        return bool(can_be) or any(path.exists() for path in self.places())

    def built(self) -> Path:
        """The program: static, without debug information; built if it is not there yet.

        Raises:
            subprocess.CalledProcessError: the compiler refused it; it said why on stderr.
        """
        near, far = self.places()
        if not near.exists():
            if not far.exists():
                put(far, self.build)
            put(near, lambda partial: shutil.copy2(far, partial))
        return near

    def build(self, out: Path) -> None:
        # GOPATH mode takes what Debian packages as it is: no module is looked for anywhere else.
        env = {
            "GO111MODULE": "off",
            "GOPATH": str(IMPORTED),
            "GOFLAGS": "",
            "CGO_ENABLED": "0",
            "GOCACHE": str(cache() / "go-build"),
        }
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(out), "."]
        subprocess.run(command, cwd=self.source, env={**os.environ, **env}, check=True)

    def keep(self) -> None:
        """It is built, and none of earlier sources is kept."""
        kept = self.built()
        for place in self.places():
            for other in place.parent.glob(f"{self.name}-????????????"):
                if other.name != kept.name:
                    other.unlink(missing_ok=True)


def put(path: Path, make: Callable[[Path], object]) -> None:
    """``path`` exists, whole, with what ``make`` writes; others may do the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        make(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


PLUGIN = GoProgram("go-plugin", "github.com/hashicorp/go-plugin")
CLIENT = GoProgram("go-client", "google.golang.org/grpc")


if __name__ == "__main__":
    for program in (PLUGIN, CLIENT):
        program.keep()
