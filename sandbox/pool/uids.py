"""Users of the system that nobody has: one for each slot, since the kernel counts processes by user."""

import socket

FIRST, BLOCK, BLOCKS = 61_000, 64, 64  # up to 65,095; none is Debian's or systemd's
_held: list[socket.socket] = []


def take() -> list[int]:
    """A block that no other pool of this machine has. It is free again when this process ends."""
    for number in range(BLOCKS):
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0agentsite-sandbox-{number}")  # an abstract name: no file, gone with the process
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        return [FIRST + number * BLOCK + offset for offset in range(BLOCK)]
    raise OSError("All users for slots are taken by other pools of this machine.")
