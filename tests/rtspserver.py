"""A small real rtsp server on the loopback: one video as an MPEG transport stream inside the connection (RFC 2326)."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PACKET_BYTES = 7 * 188
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


@contextmanager
def serve_rtsp(content: bytes, *, stalls: bool = False) -> Iterator[str]:
    """Yield an address; with ``stalls`` the server accepts the connection and says nothing."""
    closing = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, content, stalls, closing))
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/clip"
        finally:
            closing.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket, content: bytes, stalls: bool, closing: threading.Event) -> None:
    with suppress(OSError):
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as requests:
            if stalls:
                closing.wait(20)
                return
            while head := _request(requests):
                method, number = head[0].split()[0], next(x for x in head if x.lower().startswith("cseq"))
                connection.sendall(_answer(method, number).encode())
                if method == "PLAY":
                    _send(connection, content)
                    return


def _request(requests: object) -> list[str]:
    lines: list[str] = []
    while line := requests.readline().decode().strip():  # type: ignore[attr-defined]
        lines.append(line)
    return lines


def _answer(method: str, number: str) -> str:
    head = f"RTSP/1.0 200 OK\r\n{number}\r\n"
    if method == "OPTIONS":
        return head + "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
    if method == "DESCRIBE":
        return head + f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}"
    if method == "SETUP":
        return head + "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
    return head + "Session: 1\r\n\r\n"


def _send(connection: socket.socket, content: bytes) -> None:
    for number, start in enumerate(range(0, len(content), PACKET_BYTES)):
        payload = content[start : start + PACKET_BYTES]
        packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 90, 7) + payload
        connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
