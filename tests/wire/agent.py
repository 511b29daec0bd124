"""A NodeAgent in Python: what the HLD §7.1 prints, and what proto/ says beside `Credentials`."""

import hashlib
import re
import subprocess

import grpc
from cluster import CALL_WITHIN, channel
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from piccolo.v1 import api_server_pb2_grpc, node_agent_pb2, node_agent_pb2_grpc, node_pb2

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class Agent:
    """One board: a key that never leaves it, and after `join` a certificate."""

    def __init__(self, address: str, node_id: str, hostname: str | None = None) -> None:
        self.address = address
        self.node_id = node_id
        self.hostname = hostname or node_id
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.stub = None
        self.channel = None

    def join(self, token: str) -> node_agent_pb2.NodeRegistrationResponse:
        """Proves the master by the token's digest before the token leaves us, then registers."""
        ca = ca_of(self.address, token)
        with channel(self.address, ca) as first:
            stub = node_agent_pb2_grpc.NodeAgentServiceStub(first)
            answer = stub.RegisterNode(self.registration(token), timeout=CALL_WITHIN)
        self.use(answer.ca_certificate, answer.certificate)
        return answer

    def register_again(self) -> node_agent_pb2.NodeRegistrationResponse:
        """With the certificate that it has, and without a token."""
        answer = self.stub.RegisterNode(self.registration(""), timeout=CALL_WITHIN)
        self.close()
        self.use(answer.ca_certificate, answer.certificate)
        return answer

    def reconnect(self) -> None:
        """Waits until the way to the master is there again."""
        grpc.channel_ready_future(self.channel).result(timeout=CALL_WITHIN)

    def use(self, ca: bytes, certificate: bytes) -> None:
        """From now on speaks with this certificate."""
        self.channel = channel(self.address, ca, self.key_pem(), certificate)
        self.stub = node_agent_pb2_grpc.NodeAgentServiceStub(self.channel)
        self.api = api_server_pb2_grpc.ApiServerServiceStub(self.channel)

    def registration(self, token: str, **other) -> node_agent_pb2.NodeRegistrationRequest:
        fields = {
            "node_id": self.node_id,
            "hostname": self.hostname,
            "ip_address": "127.0.0.1",
            "role": node_pb2.NODE_ROLE_SUB,
            "resources": node_pb2.ResourceInfo(cpu=4, memory=2048, disk=32),
            "credentials": node_agent_pb2.Credentials(
                token=token, certificate_signing_request=self.signing_request()
            ),
        }
        return node_agent_pb2.NodeRegistrationRequest(**(fields | other))

    def signing_request(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "what the board says of itself")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = request.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def heartbeat(self, node_id: str | None = None):
        request = node_agent_pb2.HeartbeatRequest(node_id=own_or(node_id, self.node_id))
        request.sent_at.GetCurrentTime()
        return self.stub.Heartbeat(request, timeout=CALL_WITHIN)

    def report(self, node_id: str | None = None, **fields):
        report = node_agent_pb2.StatusReport(node_id=own_or(node_id, self.node_id), **fields)
        return self.stub.ReportStatus(report, timeout=CALL_WITHIN)

    def poll_config(self, applied: int, wait_seconds: int = 0):
        """The answer as a future."""
        request = node_agent_pb2.ConfigRequest(
            node_id=self.node_id, applied_generation=applied, wait_seconds=wait_seconds
        )
        return self.stub.ReceiveConfig.future(request, timeout=CALL_WITHIN + wait_seconds)

    def become_ready(self) -> int:
        """Applies the newest configuration, confirms it, and returns its generation."""
        newest = self.poll_config(0).result()
        self.poll_config(newest.generation).result()
        return newest.generation

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()


def own_or(other: str | None, own: str) -> str:
    return own if other is None else other


def ca_of(address: str, token: str) -> bytes:
    """The authority that the master shows, if it is the one whose digest is in the token."""
    digest = token.split("-")[1]
    command = ["openssl", "s_client", "-connect", address, "-showcerts", "-alpn", "h2"]
    shown = subprocess.run(command, input=b"", capture_output=True, timeout=CALL_WITHIN, check=False)
    pattern = rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n"
    for pem in re.findall(pattern, shown.stdout, re.DOTALL):
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        if crockford(hashlib.sha256(der).digest()) == digest:
            return pem
    raise AssertionError(f"nothing that {address} shows has the token's digest {digest}")


def crockford(data: bytes) -> str:
    """Base32 as tokens have it: the last letter carries the bits that are left, then zeros."""
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 5)
    length = (len(data) * 8 + 4) // 5
    return "".join(CROCKFORD[bits >> (5 * (length - 1 - i)) & 31] for i in range(length))


def code_and_reason(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """The status of a refusal, and the word of its google.rpc.ErrorInfo."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return error.code(), info.reason
    return error.code(), ""


def code_and_field(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """The status of a refusal, and the field that its google.rpc.BadRequest names, if any."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    field = ""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else []:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            field = bad.field_violations[0].field
    return error.code(), field
