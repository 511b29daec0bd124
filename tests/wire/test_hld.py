"""proto/ keeps what the HLD §7.1 prints: names, numbers, kinds and calls, exactly."""

import re
import unittest
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor
from piccolo.v1 import api_server_pb2, node_agent_pb2, node_pb2, topology_pb2

TEXT = (Path(__file__).resolve().parent / "hld_7_1.txt").read_text(encoding="utf-8")
PACKAGE = "piccolo.v1."
FILES = [api_server_pb2, node_agent_pb2, node_pb2, topology_pb2]


def blocks(kind: str) -> dict[str, str]:
    """Name and body of each `kind NAME { ... }` that the HLD prints."""
    return dict(re.findall(rf"^{kind} (\w+) {{(.*?)}}", TEXT, re.MULTILINE | re.DOTALL))


def printed_fields(body: str) -> list[str]:
    return [" ".join(line.split()) for line in body.split(";") if line.strip()]


def as_printed(field: FieldDescriptor) -> str:
    """A field of ours in the form in which the HLD writes fields."""
    return f"{_label(field)}{_type(field)} {field.name} = {field.number}"


def _label(field: FieldDescriptor) -> str:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return ""
    if field.is_repeated:
        return "repeated "
    is_optional = field.containing_oneof and field.containing_oneof.name == f"_{field.name}"
    return "optional " if is_optional else ""


def _type(field: FieldDescriptor) -> str:
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map<{_type(key)}, {_type(value)}>"
    if field.message_type:
        return field.message_type.full_name.removeprefix(PACKAGE)
    if field.enum_type:
        return field.enum_type.full_name.removeprefix(PACKAGE)
    return {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_BOOL: "bool"}[field.type]


def message(name: str):
    for file in FILES:
        if name in file.DESCRIPTOR.message_types_by_name:
            return file.DESCRIPTOR.message_types_by_name[name]
    raise AssertionError(f"the HLD's message {name} is not in proto/")


def service(name: str):
    for file in FILES:
        if name in file.DESCRIPTOR.services_by_name:
            return file.DESCRIPTOR.services_by_name[name]
    raise AssertionError(f"the HLD's service {name} is not in proto/")


class TheHldIsKept(unittest.TestCase):
    def test_every_printed_message_has_exactly_its_fields_first(self):
        printed = blocks("message")
        self.assertEqual(len(printed), 10)
        for name, body in printed.items():
            fields = printed_fields(body)
            ours = sorted(message(name).fields, key=lambda field: field.number)
            with self.subTest(message=name):
                self.assertEqual([as_printed(f) for f in ours[: len(fields)]], fields)
                numbers = [field.number for field in ours]
                self.assertEqual(numbers[: len(fields)], list(range(1, len(fields) + 1)))

    def test_every_printed_call_is_there_with_its_messages(self):
        printed = blocks("service")
        self.assertEqual(len(printed), 2)
        for name, body in printed.items():
            calls = re.findall(r"rpc (\w+)\((\w+)\) returns \((\w+)\);", body)
            self.assertGreaterEqual(len(calls), 4)
            for call, request, response in calls:
                with self.subTest(service=name, call=call):
                    method = service(name).methods_by_name[call]
                    self.assertEqual(method.input_type.full_name, PACKAGE + request)
                    self.assertEqual(method.output_type.full_name, PACKAGE + response)
                    self.assertFalse(method.client_streaming or method.server_streaming)

    def test_the_data_model_has_the_names_of_section_6(self):
        expected = {
            "Node": "id name ip role status resources created_at last_heartbeat",
            "ResourceInfo": "cpu memory disk",
            "ClusterTopology": "id name type master_nodes sub_nodes parent_cluster config",
        }
        for name, fields in expected.items():
            ours = [field.name for field in sorted(message(name).fields, key=lambda f: f.number)]
            self.assertEqual(ours[: len(fields.split())], fields.split(), name)

    def test_the_states_of_section_6_2_are_all_there(self):
        states = "PENDING INITIALIZING READY NOT_READY MAINTENANCE TERMINATING"
        ours = [value.name for value in node_pb2.NodeStatus.DESCRIPTOR.values]
        self.assertEqual(ours[1:], [f"NODE_STATUS_{state}" for state in states.split()])


if __name__ == "__main__":
    unittest.main()
