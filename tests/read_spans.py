#!/usr/bin/env python3
"""Reads an ExportTraceServiceRequest with the official schema and library.

usage: read_spans.py FILE

Exits 77 if the package opentelemetry-proto is not installed.
"""

import sys

try:
    from google.protobuf.unknown_fields import UnknownFieldSet
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
except ImportError:
    sys.exit(77)


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def unknown(message):
    """How many fields the schema does not know, in this message and all in it."""
    count = len(UnknownFieldSet(message))
    for field, inner in message.ListFields():
        if field.message_type:
            repeated = inner if not hasattr(inner, "ListFields") else [inner]
            count += sum(unknown(one) for one in repeated)
    return count


request = ExportTraceServiceRequest()
with open(sys.argv[1], "rb") as file:
    request.ParseFromString(file.read())
for resource_spans in request.resource_spans:
    for pair in resource_spans.resource.attributes:
        print(f"resource {pair.key}={value(pair.value)}")
    for scope_spans in resource_spans.scope_spans:
        print(f"scope {scope_spans.scope.name} {scope_spans.scope.version}")
        for span in scope_spans.spans:
            attributes = {pair.key: value(pair.value) for pair in span.attributes}
            print(
                Span.SpanKind.Name(span.kind),
                Status.StatusCode.Name(span.status.code),
                f"trace={span.trace_id.hex()}",
                f"parent={span.parent_span_id.hex()}",
                f"http.response.status_code={attributes.get('http.response.status_code')}",
                f"request.id={attributes.get('request.id')}",
            )
            assert len(span.trace_id) == 16 and len(span.span_id) == 8
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
            assert isinstance(attributes["http.response.status_code"], int)
            assert span.flags & 1 == 1
print("nothing unknown" if unknown(request) == 0 else "unknown fields")
