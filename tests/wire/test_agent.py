"""A board that runs this client is a node like any other: HLD §5.1.1, §7.1.2, §8.1."""

import time
import unittest

from agent import Agent
from cluster import CALL_WITHIN, Master, wait_until
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from piccolo.v1 import api_server_pb2, api_server_pb2_grpc, node_pb2, topology_pb2

READY = node_pb2.NODE_STATUS_READY
# HLD §8.1: the least interval, and how many may be missed.
INTERVAL_SECONDS = 5
MISSED = 3


class OneBoard(unittest.TestCase):
    """The life of a node, step by step against one master."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.master = cls.enterClassContext(Master())
        cls.admin = cls.enterClassContext(cls.master.admin_channel())
        cls.api = api_server_pb2_grpc.ApiServerServiceStub(cls.admin)

    def node(self, node_id: str) -> node_pb2.Node:
        request = api_server_pb2.GetNodeRequest(node_id=node_id)
        return self.api.GetNode(request, timeout=CALL_WITHIN).node

    def joined(self, node_id: str) -> Agent:
        agent = Agent(self.master.address, node_id)
        self.addCleanup(agent.close)
        agent.join(self.master.token())
        return agent

    def set_config(self, **config: str) -> topology_pb2.ClusterTopology:
        read = self.api.GetTopology(api_server_pb2.GetTopologyRequest(), timeout=CALL_WITHIN)
        read.topology.config.update(config)
        request = api_server_pb2.UpdateTopologyRequest(topology=read.topology)
        answer = self.api.UpdateTopology(request, timeout=CALL_WITHIN)
        self.assertTrue(answer.success)
        self.assertFalse(answer.HasField("error_message"))
        return answer.updated_topology

    def test_registration_gives_a_certificate_for_this_node_alone(self):
        agent = Agent(self.master.address, "py-register")
        answer = agent.join(self.master.token())
        self.addCleanup(agent.close)
        self.assertEqual(answer.node_id, "py-register")
        self.assertEqual(answer.status, node_pb2.NODE_STATUS_INITIALIZING)
        certificate = x509.load_pem_x509_certificate(answer.certificate)
        self.assertEqual(certificate.public_key(), agent.key.public_key())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        self.assertEqual(uris, [f"piccolo://{answer.cluster_id}/sub/py-register"])
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertNotIn("what the board says", certificate.subject.rfc4514_string())

    def test_the_other_service_registers_as_well(self):
        agent = Agent(self.master.address, "py-other-service")
        first = self.joined("py-first")
        self.addCleanup(agent.close)
        from agent import ca_of, channel

        token = self.master.token()
        with channel(self.master.address, ca_of(self.master.address, token)) as anonymous:
            stub = api_server_pb2_grpc.ApiServerServiceStub(anonymous)
            answer = stub.RegisterNode(agent.registration(token), timeout=CALL_WITHIN)
        agent.use(answer.ca_certificate, answer.certificate)
        self.assertEqual(agent.heartbeat().next_interval_seconds, first.heartbeat().next_interval_seconds)

    def test_a_node_becomes_ready_and_is_seen_with_what_it_reports(self):
        agent = self.joined("py-ready")
        agent.become_ready()
        beat = agent.heartbeat()
        self.assertGreaterEqual(beat.next_interval_seconds, INTERVAL_SECONDS)
        container = node_pb2.ContainerStatus(
            id="f" * 64, name="camera", image="localhost/camera:2", state="exited", exit_code=137
        )
        alert = node_pb2.AlertInfo(
            kind="DiskSlow", severity=node_pb2.SEVERITY_WARNING, message="writes take 2 s"
        )
        acknowledged = agent.report(
            status=READY,
            metrics={"cpu_percent": "12.5"},
            containers=[container],
            alerts=[alert],
        )
        self.assertEqual(acknowledged.node_id, "py-ready")
        self.assertEqual(acknowledged.status, READY)
        node = self.node("py-ready")
        self.assertEqual(node.status, READY)
        self.assertEqual((node.ip, node.role), ("127.0.0.1", node_pb2.NODE_ROLE_SUB))
        self.assertEqual((node.resources.cpu, node.resources.memory), (4, 2048))
        self.assertEqual(node.metrics["cpu_percent"], "12.5")
        self.assertEqual([c.name for c in node.containers], ["camera"])
        self.assertEqual(node.containers[0].exit_code, 137)
        self.assertTrue(node.HasField("last_heartbeat") and node.HasField("created_at"))
        request = api_server_pb2.GetNodesRequest(filter="status=Ready,name~py-ready")
        nodes = self.api.GetNodes(request, timeout=CALL_WITHIN).nodes
        self.assertEqual([node.id for node in nodes], ["py-ready"])
        events = api_server_pb2.ListEventsRequest(node="py-ready", limit=100)
        kinds = [e.message for e in self.api.ListEvents(events, timeout=CALL_WITHIN).events]
        self.assertTrue(any("writes take 2 s" in message for message in kinds), kinds)

    def test_a_waiting_poll_is_answered_when_the_configuration_changes(self):
        agent = self.joined("py-config")
        applied = agent.become_ready()
        waiting = agent.poll_config(applied, wait_seconds=30)
        time.sleep(0.3)  # so that it is waiting by then; it may not be, and must be answered too
        self.assertFalse(waiting.done())
        begun = time.monotonic()
        updated = self.set_config(**{"wire.test": "on"})
        answer = waiting.result(timeout=CALL_WITHIN)
        self.assertLess(time.monotonic() - begun, 5.0)
        self.assertEqual(answer.generation, updated.generation)
        self.assertGreater(answer.generation, applied)
        self.assertEqual(answer.config.config["wire.test"], "on")
        agent.poll_config(answer.generation).result()
        confirmed = lambda: self.node("py-config").applied_generation == answer.generation
        wait_until("the confirmation is seen", confirmed)

    def test_a_poll_without_a_change_ends_without_a_configuration(self):
        agent = self.joined("py-nothing-new")
        applied = agent.become_ready()
        answer = agent.poll_config(applied, wait_seconds=1).result()
        if answer.generation == applied:  # another test may have changed it meanwhile
            self.assertFalse(answer.HasField("config"))

    def test_silence_makes_a_node_not_ready_and_a_heartbeat_brings_it_back(self):
        agent = self.joined("py-silent")
        agent.become_ready()
        self.set_config(heartbeat_interval_seconds=str(INTERVAL_SECONDS))
        beat = agent.heartbeat()
        self.assertEqual(beat.next_interval_seconds, INTERVAL_SECONDS)
        agent.become_ready()
        silent_since = time.monotonic()
        not_ready = lambda: self.node("py-silent").status == node_pb2.NODE_STATUS_NOT_READY
        wait_until("the node is NotReady", not_ready, within=30.0)
        silence = time.monotonic() - silent_since
        self.assertGreater(silence, INTERVAL_SECONDS * MISSED - 1.0)
        self.assertLess(silence, INTERVAL_SECONDS * MISSED + 3.0)
        kinds = [condition.kind for condition in self.node("py-silent").conditions]
        self.assertIn("HeartbeatTimeout", kinds)
        agent.heartbeat()
        wait_until("the node is Ready again", lambda: self.node("py-silent").status == READY)
        self.assertEqual([c.kind for c in self.node("py-silent").conditions], [])


if __name__ == "__main__":
    unittest.main()
