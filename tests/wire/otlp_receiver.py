"""A receiver of OpenTelemetry for tests: what it takes, read with OpenTelemetry's own messages, is a line of JSON on stdout.

otlp_receiver.py PORT AUTHORIZATION [CERTIFICATE KEY]

Samples are named as Prometheus names them, so that they can be held against /metrics.
"""

import http.server
import json
import ssl
import sys

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

PROTOBUF = "application/x-protobuf"


def known(message):
    """Every field is one that OpenTelemetry has."""
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.message_type:
            for each in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                known(each)


def named(name, point, more=()):
    labels = [(each.key, each.value.string_value) for each in point.attributes] + list(more)
    inside = ",".join(f"{key}={json.dumps(value)}" for key, value in labels)
    return f"{name}{{{inside}}}" if inside else name


def samples(metric):
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    if kind != "gauge":
        assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE, metric
    for point in data.data_points:
        assert 0 <= point.start_time_unix_nano <= point.time_unix_nano, metric
        if kind != "histogram":
            assert point.WhichOneof("value") == "as_double", metric
            yield named(metric.name, point), point.as_double
            continue
        count = 0
        bounds = [format(bound, "g") for bound in point.explicit_bounds] + ["+Inf"]
        for bound, own in zip(bounds, point.bucket_counts, strict=True):
            count += own
            yield named(metric.name + "_bucket", point, [("le", bound)]), count
        assert count == point.count, metric
        yield named(metric.name + "_sum", point), point.sum
        yield named(metric.name + "_count", point), count


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/metrics":
            return self.answer(404, b"")
        if self.headers["authorization"] != sys.argv[2]:
            # some repeat what they were given
            return self.answer(401, self.headers["authorization"].encode())
        assert self.headers["content-type"] == PROTOBUF, self.headers
        request = ExportMetricsServiceRequest.FromString(body)
        known(request)
        (of,) = request.resource_metrics
        (scope,) = of.scope_metrics
        kinds = {metric.name: metric.WhichOneof("data") for metric in scope.metrics}
        taken = dict(sample for metric in scope.metrics for sample in samples(metric))
        resource = {each.key: each.value.string_value for each in of.resource.attributes}
        told = {"resource": resource, "kinds": kinds, "samples": taken, "bytes": len(body)}
        print(json.dumps(told), flush=True)
        self.answer(200, ExportMetricsServiceResponse().SerializeToString())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", PROTOBUF)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*sys.argv[3:])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


main()
