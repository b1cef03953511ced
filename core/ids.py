"""UUIDv7 (RFC 9562): keys made by us that sort by time, on every PostgreSQL from 15."""

import base64
import os
import string
import threading
import time
from uuid import UUID

NIL = UUID(int=0)  # the id of no row

_BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_SORTED = bytes.maketrans(_BASE64.encode(), bytes(sorted(f"-_{string.ascii_letters}{string.digits}".encode())))

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7() -> UUID:
    """Increasing within a process: the 12 bits after the millisecond count up (RFC 9562, 6.2, method 1)."""
    global _last_ms, _counter
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms, _counter = now, int.from_bytes(os.urandom(2)) & 0x7FF
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms, _counter = _last_ms + 1, 0
        ms, count = _last_ms, _counter
    tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=(ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | tail)


def short_id() -> str:
    """A new UUIDv7 in 22 characters that sort as it does, for what is written very often."""
    return base64.b64encode(uuid7().bytes).translate(_SORTED).decode()[:22]


def parse_uuid(text: object) -> UUID | None:
    """The UUID that a caller wrote in canonical form, else None."""
    try:
        value = UUID(str(text))
    except ValueError:
        return None
    return value if str(value) == str(text).lower() else None
