"""UUIDv7 (RFC 9562): keys made by us that sort by time, on every PostgreSQL from 15."""

import os
import threading
import time
from uuid import UUID

NIL = UUID(int=0)  # the id of no row

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


def parse_uuid(text: object) -> UUID | None:
    """The UUID that a caller wrote in canonical form, else None."""
    try:
        value = UUID(str(text))
    except ValueError:
        return None
    return value if str(value) == str(text).lower() else None
