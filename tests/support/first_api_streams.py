"""The two streams of the first API, read by stubs that are generated from containerd's own file; a program, since that
declares the same names as ours.

    python first_api_streams.py DIRECTORY SOCKET ID COUNT

Prints, a line of JSON each, COUNT Stats of the container ID, then "ready", then events until the container is deleted.
"""

from __future__ import annotations

import itertools
import json
import sys

import grpc
from google.protobuf.json_format import MessageToDict

sys.path.insert(0, sys.argv[1])
import api_pb2
import api_pb2_grpc


def say(message) -> None:
    print(json.dumps(MessageToDict(message, preserving_proto_field_name=True)), flush=True)  # noqa: T201 - its purpose


def main(socket: str, container_id: str, count: int) -> None:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = api_pb2_grpc.APIStub(channel)
        stats = stub.GetStats(api_pb2.StatsRequest(id=container_id), timeout=30)
        for one in itertools.islice(stats, count):
            say(one)
        stats.cancel()
        events = stub.Events(api_pb2.EventsRequest(), timeout=30)
        events.initial_metadata()
        print("ready", flush=True)  # noqa: T201
        for event in events:
            say(event)
            if event.type == "delete":
                break
        events.cancel()


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3], int(sys.argv[4]))
