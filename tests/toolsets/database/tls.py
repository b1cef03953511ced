"""TLS in front of a PostgreSQL that has none."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TLS_REQUEST = bytes.fromhex("0000000804d2162f")


class TlsProxy:
    def __init__(self, certificate: Path, target: int) -> None:
        self.port = self.encrypted = 0
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    @classmethod
    @contextmanager
    def running(cls, certificate: Path, target: int) -> Iterator["TlsProxy"]:
        proxy = cls(certificate, target)
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(proxy._serve, "127.0.0.1", 0))
        proxy.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield proxy
        asyncio.run_coroutine_threadsafe(_end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == TLS_REQUEST
        writer.write(b"S")
        with suppress(OSError, asyncio.CancelledError):
            await writer.start_tls(self._context)
            self.encrypted += 1
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_copy(reader, forth), _copy(back, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def _end() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
