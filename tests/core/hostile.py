"""Addresses and URLs that lead, or try to lead, into the server's own network."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.net import AddressInfo, Lookup


def _words(text: str) -> list[str]:
    """Split at blanks and newlines; a tab is part of a word."""
    return re.split(r"[ \n]+", text.strip(" \n"))


# Of every special range one or two addresses, and the edges of the ranges.
ADDRESSES_4 = _words("""
0.0.0.0 0.1.2.3 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1 100.127.255.255 100.100.100.200
127.0.0.0 127.0.0.1 127.0.1.1 127.255.255.254 169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255 168.63.129.16
172.16.0.0 172.16.0.1 172.31.255.255 192.0.0.0 192.0.0.1 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192 192.0.2.1
192.88.99.1 192.168.0.0 192.168.1.1 192.168.255.255 198.18.0.0 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
224.0.0.1 233.252.0.1 239.255.255.250 240.0.0.0 240.0.0.1 255.255.255.254 255.255.255.255
""")
ADDRESSES_6 = _words("""
:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0
::ffff:100.64.0.1 ::ffff:192.168.0.1 ::ffff:224.0.0.1 ::ffff:0:127.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::127.0.0.1
64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::192.168.0.1 64:ff9b::100.64.0.1 64:ff9b:1::1
64:ff9b:1::127.0.0.1 64:ff9b:1:ffff:ffff:ffff:8.8.8.8 100::1 100:0:0:1::1 200::1 400::1 1000::1 2001::1
2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1:: 2001:1::1 2001:2::1 2001:10::1 2001:20::1 2001:30::1 2001:db8::1
2002:7f00:1:: 2002:7f00:1::1 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1 8000::1
fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fe80::1 fe80::a9fe:a9fe febf::1 fec0::1 feff::1 ff02::1 ff05::2 ff0e::1
""")
ADDRESSES = ADDRESSES_4 + ADDRESSES_6

# Other spellings of addresses, and of loopback by name.
HOSTS = _words("""
2130706433 017700000001 0x7f000001 0X7F000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 0177.1 127.1 127.0.1 127.0.0.01 127.0.0.1.
127.0.0.1.. 0 0x0 00 0.0 1.1.1.1.1 256.1 4294967295 3232235777 0xa9fea9fe 2852039166 0251.0376.0251.0376 169.254.43518
127.0x0.0.1 ::1 ::ffff:127.0.0.1 [::1%25lo] [fe80::1%25eth0] [0:0:0:0:0:0:0:1] [0000::0001] [::ffff:127.1]
[::ffff:0x7f.1] [127.0.0.1] [::1]127.0.0.1 ①②⑦.⓪.⓪.① 127。0。0。1 １２７.0.0.1 ⑯⑨.254.169.254 localhost LOCALHOST
localhost. localhost.localdomain ip6-localhost %31%32%37.0.0.1 127.0.0.1%00.example.com 127.0.0.1%2eexample.com
""")

# `{port}` is where the trap listens.
URLS = _words("""
http://user@127.0.0.1:{port}/ http://user:password@example.com:{port}/ http://@127.0.0.1:{port}/ http://:@127.0.0.1:{port}/
http://example.com@127.0.0.1:{port}/ http://example.com:80@127.0.0.1:{port}/ http://127.0.0.1:{port}@example.com/
http://example.com%40127.0.0.1:{port}/ http://example.com\\@127.0.0.1:{port}/ http://127.0.0.1:{port}\\@example.com/
http://example.com&@127.0.0.1:{port}/ http://127.0.0.1:{port}#@example.com/ http://127.0.0.1:{port}?@example.com/
http://127.0.0.1:{port}/@example.com http://a@b@127.0.0.1:{port}/ http://127.0.0.1:{port}:80/ http://127.0.0.1:+{port}/
http://127.0.0.1:0{port}/ http:///127.0.0.1:{port}/ http:/127.0.0.1:{port}/ http:127.0.0.1:{port}/ //127.0.0.1:{port}/
127.0.0.1:{port} HTTP://127.0.0.1:{port}/ hTTps://127.0.0.1:{port}/ ftp://127.0.0.1:{port}/ file:///etc/passwd
file://127.0.0.1:{port}/etc/passwd gopher://127.0.0.1:{port}/_x dict://127.0.0.1:{port}/info ws://127.0.0.1:{port}/
ldap://127.0.0.1:{port}/ jar:http://127.0.0.1:{port}/ view-source:http://127.0.0.1:{port}/ url:http://127.0.0.1:{port}/
javascript:fetch('http://127.0.0.1:{port}') data:text/html,x about:blank blob:http://127.0.0.1:{port}/x http+unix://%2Ftmp/
http://127.0.0.1:{port}/\t http://127.0.0.1\t:{port}/ http://\u200b127.0.0.1:{port}/ http://127.0.0.1\u3002:{port}/
http://[::1]:{port}/ http://[::1:{port}/ http://[:{port}/ http://]:{port}/ http://[]:{port}/ http://.:{port}/ http://..:{port}/
http://127.0.0.1.:{port}/ http://-:{port}/ http://*:{port}/ http://127.0.0.1,example.com:{port}/ http://;127.0.0.1:{port}/
http://example.com:22/ http://example.com:25/ http://example.com:5432/ http://example.com:6379/ http://example.com:0/
http://example.com:65536/ http://example.com:-1/ http://example.com:x/
""")


@dataclass
class Trap:
    """A listener on every address of this machine that counts who came."""

    port: int
    hits: int = 0


@contextmanager
def trap() -> Iterator[Trap]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        held = Trap(listener.getsockname()[1])

        def count() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    held.hits += 1
                    if connection.recv(4096) == b"end":
                        return
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ninner")

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        yield held
        with socket.create_connection(("127.0.0.1", held.port)) as last:
            last.sendall(b"end")
        thread.join(5)


def info(address: str, port: int) -> AddressInfo:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


def answering(*answers: list[str]) -> tuple[Lookup, list[str]]:
    """A name server that gives one answer after the other and the last one for good; and whom it was asked for."""
    asked: list[str] = []

    async def lookup(host: str, port: int, family: int) -> list[AddressInfo]:
        asked.append(host)
        given = answers[min(len(asked), len(answers)) - 1]
        if not given:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [info(address, port) for address in given]

    return lookup, asked
