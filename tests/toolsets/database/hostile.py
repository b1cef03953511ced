"""Servers that speak PostgreSQL's protocol in bad faith."""

import base64
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read(peer: socket.socket, *, startup: bool = False) -> bytes:
    head = b"" if startup else peer.recv(1, socket.MSG_WAITALL)
    length = struct.unpack("!I", peer.recv(4, socket.MSG_WAITALL))[0]
    return head + peer.recv(length - 4, socket.MSG_WAITALL)


def many_rounds(peer: socket.socket) -> None:
    """Asks for SCRAM keys of two million rounds, a second's work; it could ask for a thousand times as many."""
    _read(peer, startup=True)
    peer.sendall(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    nonce = _read(peer).partition(b"r=")[2]
    salt = base64.b64encode(b"0" * 16)
    peer.sendall(message(b"R", struct.pack("!I", 11) + b"r=" + nonce + b"x,s=" + salt + b",i=2000000"))
    peer.recv(1)


def echo_password(peer: socket.socket) -> None:
    """Asks for the password in clear, and tells it in its error."""
    _read(peer, startup=True)
    peer.sendall(message(b"R", struct.pack("!I", 3)))
    password = _read(peer)[1:].rstrip(b"\0")
    peer.sendall(message(b"E", b"SFATAL\0VFATAL\0C28P01\0Mwrong: " + password + b"\0\0"))


def flood(peer: socket.socket) -> None:
    """Lets anybody in, and answers with one row of two gigabytes."""
    _read(peer, startup=True)
    peer.sendall(message(b"R", struct.pack("!I", 0)) + message(b"Z", b"I"))
    _read(peer)
    head = b"T" + struct.pack("!IH", 4 + 2 + 2 + 18, 1) + b"c\0" + struct.pack("!IHIHIH", 0, 0, 25, 65535, 0, 0)
    peer.sendall(head + b"D" + struct.pack("!IHI", 2_000_000_010, 1, 2_000_000_000))
    piece = bytes(1_000_000)
    for _ in range(2_000):
        peer.sendall(piece)


def silent(peer: socket.socket) -> None:
    peer.recv(1_000_000)
    peer.recv(1)


@contextmanager
def serving(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, behave), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, behave: Callable[[socket.socket], None]) -> None:
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_behave, args=(peer, behave), daemon=True).start()


def _behave(peer: socket.socket, behave: Callable[[socket.socket], None]) -> None:
    with peer, suppress(OSError, struct.error):
        behave(peer)


def losing(word: bytes, port: int) -> Callable[[socket.socket], None]:
    """Passes on what goes to the PostgreSQL at `port` and comes back, until `word` was sent: its answer is lost."""

    def behave(peer: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            peer.settimeout(None)
            lost = threading.Event()
            threading.Thread(target=_back, args=(server, peer, lost), daemon=True).start()
            while piece := peer.recv(65536):
                if word in piece:
                    lost.set()
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)

    return behave


def _back(server: socket.socket, peer: socket.socket, lost: threading.Event) -> None:
    with suppress(OSError):
        while piece := server.recv(65536):
            if lost.is_set():  # the answer is here, so the statement was made
                peer.shutdown(socket.SHUT_RDWR)
                return
            peer.sendall(piece)
