"""The plugin of ``go_plugin/``, built with Debian's Go and go-plugin.

Building takes most of a minute, so the program lies in the user's cache, beside the newer root, under a hash of its
sources; a copy lies in the checkout, where the newer root and the guest, which have no Go, see it, too.

    python tests/support/go_plugin.py       builds it
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix("")
CHECKOUT = Path(__file__).resolve().parents[2]
IMPORTED = Path("/usr/share/gocode")

COOKIE = ("OCISHIM_TEST_PLUGIN", "d1f06e1c9a6b")
VERSIONS = (2, 3)
SERVICE = "ocishim.test.Plugin"


def cache() -> Path:
    """Where what this user built is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "ocishim")


def key() -> str:
    content = hashlib.sha256()
    for path in sorted(SOURCE.glob("*.go")):
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def is_there() -> bool:
    """Whether it is built, or can be."""
    can_be = shutil.which("go") and (IMPORTED / "src/github.com/hashicorp/go-plugin").exists()
    return bool(can_be) or any(path.exists() for path in places())


def places() -> list[Path]:
    name = f"go-plugin-{key()}"
    return [CHECKOUT / ".make" / name, cache() / name]


def built() -> Path:
    """The program: static, without debug information; built if it is not there yet.

    Raises:
        subprocess.CalledProcessError: the compiler refused it; it said why on stderr.
    """
    near, far = places()
    if not near.exists():
        if not far.exists():
            put(far, build)
        put(near, lambda partial: shutil.copy2(far, partial))
    return near


def put(path: Path, make) -> None:
    """``path`` exists, whole, with what ``make`` writes; others may do the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        make(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def build(out: Path) -> None:
    # GOPATH mode takes what Debian packages as it is: no module is looked for anywhere else.
    env = {
        "GO111MODULE": "off",
        "GOPATH": str(IMPORTED),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache() / "go-build"),
    }
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(out), "."]
    subprocess.run(command, cwd=SOURCE, env={**os.environ, **env}, check=True)


def main() -> None:
    """It is built, and no other is kept."""
    kept = built()
    for place in places():
        for other in place.parent.glob("go-plugin-*"):
            if other.name != kept.name:
                other.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
