"""A real master on loopback, and its first administrator."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import grpc
import yaml

STARTS_WITHIN = 30.0
ENDS_WITHIN = 10.0
POLL_EVERY = 0.02
CALL_WITHIN = 10.0


def program(name: str) -> str:
    folder = os.environ.get("PICCOLO_BIN_DIR", "target/debug")
    path = Path(folder).resolve() / name
    if not path.is_file():
        raise SystemExit(f"{path} is not there: cargo build --workspace --bins")
    return str(path)


def wait_until(what: str, holds, within: float = STARTS_WITHIN):
    """Polls until `holds()` is truthy, and returns that."""
    deadline = time.monotonic() + within
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within} s in vain until {what}")
        time.sleep(POLL_EVERY)


class Master:
    """`piccolo-master` with the embedded store in a temporary folder; used as a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="piccolo-wire-master-"))
        self.address = f"127.0.0.1:{free_port()}"
        self.https = f"127.0.0.1:{free_port()}"
        self.log = self.folder / "master.log"

    def __enter__(self) -> "Master":
        self.start()
        return self

    def __exit__(self, *_error) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def settings(self) -> list[str]:
        state = ["--state-dir", str(self.folder / "state")]
        return state + ["--listen", self.address, "--https-listen", self.https]

    def start(self) -> None:
        command = [program("piccolo-master"), "run", *self.settings()]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until("the master answers", self.answers)
        except BaseException:
            self.__exit__()
            raise

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def backup(self, *arguments: str) -> None:
        """`piccolo backup ...` on the master's machine; it must succeed."""
        command = [program("piccolo"), "backup", *arguments, *self.settings()]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"piccolo backup {arguments[0]}: {done.stderr.decode()}")

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def answers(self) -> bool:
        if not self.is_alive():
            raise AssertionError(f"the master has ended:\n{self.log.read_text()}")
        return self.context_file().is_file() and self.piccolo("status").returncode == 0

    def context_file(self) -> Path:
        return self.folder / "state" / "admin.context.yaml"

    def piccolo(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [program("piccolo"), "--context", str(self.context_file()), *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def json(self, *arguments: str):
        done = self.piccolo(*arguments, "-o", "json")
        if done.returncode != 0:
            raise AssertionError(f"piccolo {' '.join(arguments)}: {done.stderr.decode()}")
        return json.loads(done.stdout)

    def token(self, *arguments: str) -> str:
        return self.json("token", "create", "--role", "sub", *arguments)["token"]

    def admin_channel(self) -> grpc.Channel:
        context = yaml.safe_load(self.context_file().read_text(encoding="utf-8"))
        pem = {key: context[key].encode() for key in ("ca", "key", "certificate")}
        return channel(self.address, pem["ca"], pem["key"], pem["certificate"])


def channel(address: str, ca: bytes, key: bytes | None = None, certificate: bytes | None = None):
    """TLS with the cluster's authority; mutual where there is a certificate."""
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    # Channels of one process would otherwise share a connection, whoever they speak for.
    return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
