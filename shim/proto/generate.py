"""Makes ``*_pb2.py`` and ``*_pb2.pyi`` out of the ``.proto`` files beside this one.

    python -m shim.proto.generate [DIRECTORY]

The modules go to DIRECTORY/shim/proto; without an argument, next to their sources. The files import each other by
their path from the top of the repository, which makes the generated import statements right as they come.
Needs grpcio-tools, which carries protoc; its version decides the least protobuf that the modules accept.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["generate"]

_HERE = Path(__file__).resolve().parent
_TOP = _HERE.parents[1]

# protoc writes a bare Mapping wherever a message may be given as a dict, which strict mypy refuses.
_STUB_HEADER = '# mypy: disable-error-code="type-arg"\n'


def generate(out: Path = _TOP) -> None:
    """Every module exists anew below ``out``/shim/proto.

    Raises:
        subprocess.CalledProcessError: protoc is missing or refused a file; it said why on stderr.
    """
    sources = sorted(str(path.relative_to(_TOP)) for path in _HERE.glob("*.proto"))
    # --proto_path is relative to cwd so that the file names in the descriptors are too.
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=."]
    outputs = [f"--python_out={out.resolve()}", f"--pyi_out={out.resolve()}"]
    subprocess.run([*command, *outputs, *sources], cwd=_TOP, check=True)  # noqa: S603 - our own arguments
    for source in sources:
        stub = out / source.replace(".proto", "_pb2.pyi")
        stub.write_text(_STUB_HEADER + stub.read_text())


if __name__ == "__main__":
    generate(*map(Path, sys.argv[1:2]))
