#!/usr/bin/python3
"""Speaks the container runtime interface to containerd, for the end-to-end cases.

    client.py SOCKET

Reads lines of `METHOD JSON` and answers each with one line of JSON: the response, or {"error": "CODE: text"}. Fields that
have their default value are left out, 64-bit numbers are strings. Debian packages only: python3-grpcio,
python3-protobuf, protobuf-compiler.
"""
import json
import os
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import json_format

# Longer than anything that kubelet does without its own time limit.
SECONDS = 60


def messages():
    """The module that protoc makes of cri.proto."""
    here = os.path.dirname(os.path.realpath(__file__))
    with tempfile.TemporaryDirectory() as made:
        subprocess.check_call(["protoc", f"-I{here}", f"--python_out={made}", "cri.proto"])
        sys.path.insert(0, made)
        import cri_pb2

        return cri_pb2


def call(channel, cri, method, text):
    request, response = getattr(cri, method + "Request"), getattr(cri, method + "Response")
    stub = channel.unary_unary(
        f"/runtime.v1.RuntimeService/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    try:
        answer = stub(json_format.Parse(text, request()), timeout=SECONDS)
    except grpc.RpcError as error:
        return {"error": f"{error.code().name}: {error.details()}"}
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def main():
    cri = messages()
    # Without an authority of its own gRPC sends the socket's path, which Go refuses.
    channel = grpc.insecure_channel("unix://" + sys.argv[1], options=[("grpc.default_authority", "localhost")])
    for line in sys.stdin:
        method, text = line.split(" ", 1)
        print(json.dumps(call(channel, cri, method, text)), flush=True)


if __name__ == "__main__":
    main()
