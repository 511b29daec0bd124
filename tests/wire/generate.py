"""Generates the client's code from proto/, as any user of the wire would."""

from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"


def into(folder: Path) -> None:
    """Writes `piccolo/v1/*_pb2.py` and `*_pb2_grpc.py` below `folder`."""
    files = sorted(PROTO.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"--proto_path={PROTO}", f"--proto_path={well_known}"]
    arguments += [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    status = protoc.main(arguments + [str(file) for file in files])
    if status != 0:
        raise SystemExit(f"proto/ cannot be compiled by protoc (status {status})")
