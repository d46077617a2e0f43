"""Two tables that can be scanned and read by key, in a process of their own: source and lake, the same rows.

Rows are made when they are asked for, from a few thousand shapes, so tables of any size cost little memory. The
lake's rows have their attributes, maps and sets in another order than the source's, and metadata. Its first line of
output is its port.

Usage: python -m benchmarks.tables ROWS
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import zlib
from typing import Any, Final

KEY: Final = ("customer", "order")
SHAPES: Final = 2048
PAGE_ROWS: Final = 1300
"""About what 1 MB holds."""

_MARK: Final = "987654321"
_WORDS: Final = (
    "Grüße",
    "express",
    "gift",
    "fragile",
    "return",
    "priority",
    "cool",
    "frozen",
    "night",
    "Straße",
)


def shape(chance: random.Random) -> dict[str, Any]:
    """A row of about 740 bytes of DynamoDB JSON: nested, with sets, binary and long numbers."""
    tags = sorted(set(chance.choices(_WORDS, k=4)))
    return {
        "customer": {"S": f"CUSTOMER#{chance.randrange(10**6):07d}"},
        "order": {"S": f"ORDER#{_MARK}"},
        "status": {"S": chance.choice(["NEW", "PAID", "SHIPPED", "RETURNED"])},
        "total": {"N": f"{chance.randrange(10**6)}.{chance.randrange(1, 10)}"},
        "created": {"N": f"1767{_MARK}"},
        "lines": {
            "L": [
                {
                    "M": {
                        "sku": {"S": f"SKU-{chance.randrange(99999):05d}"},
                        "count": {"N": str(chance.randrange(1, 20))},
                        "price": {"N": f"{chance.randrange(1, 999)}.5"},
                    }
                }
                for _ in range(chance.choice([1, 2, 2]))
            ]
        },
        "address": {
            "M": {
                "street": {"S": " ".join(chance.choices(_WORDS, k=2))},
                "city": {"S": chance.choice(_WORDS)},
                "geo": {"M": {"lat": {"N": "52.516275"}, "lon": {"N": "13.377704"}}},
            }
        },
        "tags": {"SS": tags},
        "ratings": {"NS": ["4.5", "5", "3"]},
        "paid": {"BOOL": True},
        "note": {"NULL": True},
        "picture": {"B": "AAECAwQFBgcICQoLDA0ODw=="},
        "exact": {"N": f"{chance.randrange(10**20, 10**21)}.{chance.randrange(10**8, 10**9)}1"},
    }


def shuffled(chance: random.Random, value: Any, depth: int = 0) -> Any:
    """The same item with maps and sets in another order."""
    if depth % 2 == 0:  # a map of attributes: name -> value
        members = [(name, shuffled(chance, each, depth + 1)) for name, each in value.items()]
        chance.shuffle(members)
        return dict(members)
    ((tag, content),) = value.items()
    if tag == "M":
        return {"M": shuffled(chance, content)}
    if tag == "L":
        return {"L": [shuffled(chance, each, 1) for each in content]}
    if tag in ("SS", "NS"):
        return {tag: chance.sample(content, len(content))}
    return value


class Rows:
    """The rows of both tables, by number."""

    def __init__(self, rows: int) -> None:
        chance = random.Random(20261124)
        self.rows = rows
        self._shapes: dict[str, list[list[bytes]]] = {"source": [], "lake": []}
        for _ in range(SHAPES):
            made = shape(chance)
            lake = {
                **shuffled(chance, made),
                "_lake_version": {"S": f"2026-01-01T00:00:00.000/{'4421584500000':0>31}{_MARK}"},
                "_lake_at": {"N": "1767225600123"},
                "_lake_source_at": {"N": "1767225600000"},
            }
            for table, each in (("source", made), ("lake", lake)):
                text = json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode()
                self._shapes[table].append(text.split(_MARK.encode()))

    def row(self, table: str, number: int) -> bytes:
        return (b"%09d" % number).join(self._shapes[table][number % SHAPES])

    def page(self, table: str, request: dict[str, Any]) -> bytes:
        """A page of a segment: the segments share the rows among them, one after another."""
        segment, segments = request.get("Segment", 0), request.get("TotalSegments", 1)
        end = self.rows * (segment + 1) // segments
        start = self.rows * segment // segments
        if "ExclusiveStartKey" in request:
            start = int(request["ExclusiveStartKey"]["order"]["S"].removeprefix("ORDER#")) + 1
        stop = min(end, start + PAGE_ROWS)
        rows = [self.row(table, number) for number in range(start, stop)]
        more = b""
        if stop < end:
            last = json.loads(rows[-1])
            more = b',"LastEvaluatedKey":' + json.dumps({name: last[name] for name in KEY}).encode()
        return (
            b'{"ConsumedCapacity":{"CapacityUnits":128.5,"TableName":"%b"},"Count":%d,"Items":['
            % (table.encode(), len(rows))
            + b",".join(rows)
            + b'],"ScannedCount":%d%b}' % (len(rows), more)
        )

    def batch(self, request: dict[str, Any]) -> bytes:
        ((table, wanted),) = request["RequestItems"].items()
        numbers = [int(key["order"]["S"].removeprefix("ORDER#")) for key in wanted["Keys"]]
        rows = b",".join(self.row(table, number) for number in numbers)
        return b'{"Responses":{"%b":[%b]},"UnprocessedKeys":{}}' % (table.encode(), rows)


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            whole = end + 4 + int(head[at : at + 12].split(b"\r\n")[0])
            if len(self._buffer) < whole:
                return
            request = json.loads(self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            if b"dynamodb_20120810.scan" in head:
                body = self._rows.page(request["TableName"], request)
            else:
                body = self._rows.batch(request)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n"
                b"x-amzn-RequestId: %b\r\nx-amz-crc32: %d\r\n\r\n"
                % (len(body), b"A" * 52, zlib.crc32(body))
                + body
            )


async def serve(rows: int) -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    made = Rows(rows)
    server = await loop.create_server(lambda: Connection(made), "127.0.0.1")
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
