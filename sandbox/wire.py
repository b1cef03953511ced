"""What the server and its pool process say to each other: frames of a header and bytes. Standard library only."""

import struct

HEADER = struct.Struct(">IIc")  # bytes that follow, number of the job, kind
# To the pool: a job (its terms as JSON, a line end, the slot's own line), one for which a slot is started, an
# answer to a host call, a cancellation.
JOB, COLD_JOB, ANSWER, CANCEL = b"J", b"K", b"A", b"X"
# From it: a host call and an end as the slot told them, what was printed, how the slot ended, and what it lacks.
CALL, END, STDOUT, STDERR, GONE, MISSING, STATE = b"C", b"E", b"1", b"2", b"G", b"M", b"S"


def frame(job: int, kind: bytes, payload: bytes = b"") -> bytes:
    return HEADER.pack(len(payload), job, kind) + payload
