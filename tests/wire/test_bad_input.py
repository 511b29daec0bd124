"""What is wrong is refused with the exact status and the field, stores nothing, and ends nothing."""

import unittest

import grpc
from agent import Agent, ca_of, code_and_field
from cluster import CALL_WITHIN, Master, channel
from grpc import StatusCode
from piccolo.v1 import api_server_pb2, api_server_pb2_grpc, node_agent_pb2, node_agent_pb2_grpc
from piccolo.v1 import node_pb2, topology_pb2

INVALID = StatusCode.INVALID_ARGUMENT


# Of one address, per minute: then it is slowed down, and so would be the tests of one class.
FAILED_JOINS_MAX = 20


class Surroundings(unittest.TestCase):
    """A master with one good node. Each class of tests has its own."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.master = cls.enterClassContext(Master())
        cls.admin = cls.enterClassContext(cls.master.admin_channel())
        cls.api = api_server_pb2_grpc.ApiServerServiceStub(cls.admin)
        cls.token = cls.master.token("--uses", "100")
        cls.ca = ca_of(cls.master.address, cls.token)
        cls.good = Agent(cls.master.address, "good")
        cls.good.join(cls.token)
        cls.addClassCleanup(cls.good.close)
        cls.good.become_ready()

    def tearDown(self) -> None:
        """Whatever was sent: the master lives, and knows the one good node and no other."""
        self.assertTrue(self.master.is_alive())
        nodes = self.api.GetNodes(api_server_pb2.GetNodesRequest(), timeout=CALL_WITHIN).nodes
        self.assertEqual([node.id for node in nodes], ["good"])

    def check(self, call, code: StatusCode, field: str = "") -> None:
        """`call` is refused with exactly this code, and names exactly this field."""
        with self.assertRaises(grpc.RpcError) as refused:
            call()
        got = code_and_field(refused.exception)
        self.assertEqual(got, (code, field), refused.exception.details())
        self.assertTrue(refused.exception.details(), "a refusal says why")

    def register(self, token: str | None = None, **other):
        agent = Agent(self.master.address, "newcomer")
        request = agent.registration(self.token if token is None else token, **other)
        with channel(self.master.address, self.ca) as anonymous:
            stub = node_agent_pb2_grpc.NodeAgentServiceStub(anonymous)
            return stub.RegisterNode(request, timeout=CALL_WITHIN)


class Registrations(Surroundings):
    def test_registrations_with_a_field_that_is_wrong(self):
        absurd = 2**63
        info = node_pb2.ResourceInfo
        cases = [
            ({"node_id": ""}, "node_id"),
            ({"node_id": "../etc"}, "node_id"),
            ({"node_id": "n" * 300}, "node_id"),
            ({"hostname": ""}, "hostname"),
            ({"hostname": "two words"}, "hostname"),
            ({"hostname": "-dash"}, "hostname"),
            ({"ip_address": "999.1.1.1"}, "ip_address"),
            ({"role": 0}, "role"),
            ({"role": 99}, "role"),
            ({"kind": 99}, "kind"),
            ({"resources": info(cpu=2**31)}, "resources.cpu"),
            ({"resources": info(memory=absurd)}, "resources.memory"),
            ({"resources": info(disk=absurd)}, "resources.disk"),
            ({"labels": {"key with space": "x"}}, "labels[key with space]"),
            ({"labels": {f"k{i}": "x" for i in range(1000)}}, "labels"),
        ]
        for other, field in cases:
            with self.subTest(**{key: str(value)[:60] for key, value in other.items()}):
                self.check(lambda o=other: self.register(**o), INVALID, field)


class Tokens(Surroundings):
    def test_tokens_that_are_none(self):
        prefix, digest, secret = self.token.split("-")
        wrong_secret = "0" * len(secret)
        other_cluster = "0" * len(digest)
        denied = StatusCode.PERMISSION_DENIED
        field = "credentials.token"
        self.check(lambda: self.register("hello"), INVALID, field)
        self.check(lambda: self.register(f"{prefix}-{digest}-{wrong_secret}"), denied, field)
        self.check(lambda: self.register(f"{prefix}-{other_cluster}-{secret}"), denied, field)

    def test_a_token_for_another_role_or_revoked_is_refused(self):
        denied = StatusCode.PERMISSION_DENIED
        of_a_master = {"role": node_pb2.NODE_ROLE_MASTER}
        self.check(lambda: self.register(**of_a_master), denied, "credentials.token")
        revoked = self.master.json("token", "create", "--role", "sub")
        identity = revoked.get("id") or revoked["info"]["id"]
        self.assertEqual(self.master.piccolo("token", "revoke", identity).returncode, 0)
        self.check(lambda: self.register(revoked["token"]), denied, "credentials.token")

    def test_a_request_for_a_certificate_that_is_none(self):
        field = "credentials.certificate_signing_request"
        for request in [b"", b"rubbish"]:
            credentials = node_agent_pb2.Credentials(
                token=self.token, certificate_signing_request=request
            )
            with self.subTest(request=request):
                self.check(lambda c=credentials: self.register(credentials=c), INVALID, field)


class Guessing(Surroundings):
    def test_whoever_guesses_tokens_is_slowed_down(self):
        prefix, digest, secret = self.token.split("-")
        guess = f"{prefix}-{digest}-{'0' * len(secret)}"
        for _ in range(FAILED_JOINS_MAX):
            self.check(
                lambda: self.register(guess), StatusCode.PERMISSION_DENIED, "credentials.token"
            )
        self.check(lambda: self.register(guess), StatusCode.RESOURCE_EXHAUSTED)
        self.check(lambda: self.register(self.token), StatusCode.RESOURCE_EXHAUSTED)


class Calls(Surroundings):
    def test_reports_with_a_field_that_is_wrong(self):
        report = self.good.report
        container = node_pb2.ContainerStatus
        cases = [
            ({"status": 99}, "status"),
            ({"containers": [container(id="a", name="x" * 5000)]}, "containers[0].name"),
            ({"alerts": [node_pb2.AlertInfo(kind="A", severity=99)]}, "alerts[0].severity"),
            ({"metrics": {f"m{i}": "1" for i in range(2000)}}, "metrics"),
        ]
        for fields, field in cases:
            with self.subTest(field=field):
                self.check(lambda f=fields: report(**f), INVALID, field)

    def test_a_message_that_is_too_large_is_refused_unread(self):
        huge = {"metrics": {"m": "x" * 20_000_000}}
        with self.assertRaises(grpc.RpcError) as refused:
            self.good.report(**huge)
        allowed = (StatusCode.OUT_OF_RANGE, StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn(refused.exception.code(), allowed, refused.exception.details())
        self.good.heartbeat()

    def test_a_node_speaks_for_itself_alone(self):
        denied = StatusCode.PERMISSION_DENIED
        self.check(lambda: self.good.heartbeat(node_id="somebody-else"), denied, "node_id")
        self.check(lambda: self.good.report(node_id="somebody-else"), denied, "node_id")
        poll = node_agent_pb2.ConfigRequest(node_id="somebody-else")
        self.check(lambda: self.good.stub.ReceiveConfig(poll, timeout=CALL_WITHIN), denied, "node_id")

    def test_a_node_is_no_administrator(self):
        denied = StatusCode.PERMISSION_DENIED
        topology = api_server_pb2.UpdateTopologyRequest()
        update = lambda: self.good.api.UpdateTopology(topology, timeout=CALL_WITHIN)
        self.check(update, denied)
        nodes = lambda: self.good.api.GetNodes(api_server_pb2.GetNodesRequest(), timeout=CALL_WITHIN)
        self.check(nodes, denied)

    def test_without_a_certificate_there_is_registration_and_no_more(self):
        unknown = StatusCode.UNAUTHENTICATED
        beat = node_agent_pb2.HeartbeatRequest(node_id="good")
        with channel(self.master.address, self.ca) as anonymous:
            stub = node_agent_pb2_grpc.NodeAgentServiceStub(anonymous)
            api = api_server_pb2_grpc.ApiServerServiceStub(anonymous)
            self.check(lambda: stub.Heartbeat(beat, timeout=CALL_WITHIN), unknown)
            nodes = api_server_pb2.GetNodesRequest()
            self.check(lambda: api.GetNodes(nodes, timeout=CALL_WITHIN), unknown)

    def test_plaintext_is_no_way_in(self):
        with grpc.insecure_channel(self.master.address) as plain:
            stub = node_agent_pb2_grpc.NodeAgentServiceStub(plain)
            with self.assertRaises(grpc.RpcError) as refused:
                stub.Heartbeat(node_agent_pb2.HeartbeatRequest(node_id="good"), timeout=3)
        allowed = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
        self.assertIn(refused.exception.code(), allowed)

    def test_a_filter_that_is_wrong_names_the_place(self):
        def get(text: str):
            request = api_server_pb2.GetNodesRequest(filter=text)
            return lambda: self.api.GetNodes(request, timeout=CALL_WITHIN)

        for text in ["status", "colour=red", "status=Happy", "=", "role=sub,,"]:
            with self.subTest(filter=text):
                self.check(get(text), INVALID, "filter")

    def test_an_unknown_node_is_not_found(self):
        request = api_server_pb2.GetNodeRequest(node_id="nobody")
        get = lambda: self.api.GetNode(request, timeout=CALL_WITHIN)
        self.check(get, StatusCode.NOT_FOUND, "node_id")

    def test_a_topology_that_is_wrong_is_refused_by_field(self):
        read = self.api.GetTopology(api_server_pb2.GetTopologyRequest(), timeout=CALL_WITHIN)
        before = read.topology

        def update(**other):
            topology = topology_pb2.ClusterTopology()
            topology.CopyFrom(before)
            for key, value in other.items():
                if key == "config":
                    topology.config.update(value)
                else:
                    setattr(topology, key, value)
            request = api_server_pb2.UpdateTopologyRequest(topology=topology)
            return lambda: self.api.UpdateTopology(request, timeout=CALL_WITHIN)

        key = "heartbeat_interval_seconds"
        self.check(update(name=""), INVALID, "topology.name")
        self.check(update(type=99), INVALID, "topology.type")
        self.check(update(id="another"), INVALID, "topology.id")
        self.check(update(config={key: "4"}), INVALID, f"topology.config[{key}]")
        after = self.api.GetTopology(api_server_pb2.GetTopologyRequest(), timeout=CALL_WITHIN)
        self.assertEqual(after.topology.generation, before.generation)


if __name__ == "__main__":
    unittest.main()
