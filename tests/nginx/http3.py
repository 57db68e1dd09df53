"""Asks over HTTP/3 and prints each response's status and fields.

http3.py [--session FILE] CA-FILE HOST PORT PATH...: all requests go over one connection to 127.0.0.1, with HOST
as the name in the handshake and in the requests. With FILE, the TLS session that is in it is offered, and the
newest is put there; each response then has a field tls-session, which is resumed or new.
"""

import asyncio
import os
import pickle
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    """One connection; each request waits for the end of its stream."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    async def get(self, authority, path):
        stream = self._quic.get_next_available_stream_id()
        fields = [(b":method", b"GET"), (b":scheme", b"https")]
        fields += [(b":authority", authority.encode()), (b":path", path.encode())]
        self.http.send_headers(stream, fields, end_stream=True)
        self.waiting[stream] = ([], asyncio.get_running_loop().create_future())
        self.transmit()
        return await asyncio.wait_for(self.waiting[stream][1], 10)

    def quic_event_received(self, event):
        for event in self.http.handle_event(event):
            if event.stream_id not in self.waiting:
                continue
            fields, done = self.waiting[event.stream_id]
            if isinstance(event, HeadersReceived):
                fields.extend(event.headers)
            if isinstance(event, (DataReceived, HeadersReceived)) and event.stream_ended:
                done.set_result(fields)


def keep(session, ticket):
    """Keeps the newest session."""
    with open(session, "wb") as file:
        pickle.dump(ticket, file)


async def main(session, ca, host, port, *paths):
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, server_name=host, verify_mode=ssl.CERT_REQUIRED
    )
    configuration.load_verify_locations(ca)
    if session and os.path.exists(session):
        with open(session, "rb") as file:
            configuration.session_ticket = pickle.load(file)
    handler = (lambda ticket: keep(session, ticket)) if session else None
    async with connect(
        "127.0.0.1", int(port), configuration=configuration, create_protocol=Client,
        session_ticket_handler=handler,
    ) as client:
        for path in paths:
            for name, value in await client.get(f"{host}:{port}", path):
                name = name.decode()
                print(f"HTTP/3 {value.decode()}" if name == ":status" else f"{name}: {value.decode()}")
            if session:
                print("tls-session:", "resumed" if client._quic.tls.session_resumed else "new")


words = sys.argv[1:]
kept = words[1] if words[0] == "--session" else None
asyncio.run(main(kept, *words[2 if kept else 0:]))
