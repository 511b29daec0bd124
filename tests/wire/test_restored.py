"""A client without sessions whose master was restored, or rebuilt, without its knowing: HLD §10.3."""

import os
import shutil
import unittest

import grpc
from agent import Agent, code_and_reason
from cluster import Master, wait_until
from grpc import StatusCode

REGISTER_AGAIN = (StatusCode.FAILED_PRECONDITION, "RegisterAgain")


class RestoredMaster(unittest.TestCase):
    def setUp(self) -> None:
        self.master = self.enterContext(Master())

    def joined(self, node_id: str) -> Agent:
        agent = Agent(self.master.address, node_id)
        self.addCleanup(agent.close)
        agent.join(self.master.token())
        agent.become_ready()
        return agent

    def private_file(self, name: str, text: str) -> str:
        path = self.master.folder / name
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return str(path)

    def is_adopted(self, agent: Agent) -> None:
        """Told to register again, it does so with nothing but its certificate, and is the node that it was."""
        agent.reconnect()
        for call in (agent.heartbeat, agent.report, lambda: agent.poll_config(0).result()):
            with self.assertRaises(grpc.RpcError) as refused:
                call()
            self.assertEqual(code_and_reason(refused.exception), REGISTER_AGAIN)
            self.assertIn("joined after the backup", refused.exception.details())
        answer = agent.register_again()
        self.assertEqual(answer.node_id, agent.node_id)
        agent.heartbeat()
        agent.become_ready()
        self.is_ready(agent)
        events = self.master.json("events", "-n", "1000")["events"]
        adopted = [e for e in events if e["kind"] == "NodeAdopted" and e["node_id"] == agent.node_id]
        self.assertEqual(len(adopted), 1, events)

    def is_ready(self, agent: Agent) -> None:
        def ready() -> bool:
            nodes = self.master.json("node", "list")["nodes"]
            status = [node["status"] for node in nodes if node["id"] == agent.node_id]
            return status == ["Ready"]

        wait_until(f"{agent.node_id} is Ready", ready)

    def test_who_joined_after_the_backup_registers_again_and_the_others_go_on(self):
        before = self.joined("py-before")
        passphrase = self.private_file("passphrase", "correct horse battery staple\n")
        file = str(self.master.folder / "wire.backup")
        self.master.backup("create", "--out", file, "--passphrase-file", passphrase)
        after = self.joined("py-after")
        self.master.stop()
        self.master.backup("restore", file, "--force", "--passphrase-file", passphrase)
        self.master.start()
        before.reconnect()
        before.heartbeat()
        self.is_adopted(after)
        self.is_ready(before)
        # whoever is removed now stays out
        self.assertEqual(self.master.piccolo("node", "remove", "py-after", "--yes").returncode, 0)
        with self.assertRaises(grpc.RpcError):
            after.heartbeat()

    def test_a_new_master_with_the_old_authority_takes_a_client_in(self):
        agent = self.joined("py-left")
        state = self.master.folder / "state"
        authority = self.private_file("ca.pem", (state / "ca.pem").read_text(encoding="utf-8"))
        self.master.stop()
        shutil.rmtree(state)
        self.master.backup("rebuild", "--authority", authority)
        self.master.start()
        self.is_adopted(agent)


if __name__ == "__main__":
    unittest.main()
