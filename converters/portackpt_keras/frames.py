"""The frames in which a process and the child that parses HDF5 for it talk.

A frame is a kind (one byte), a length (4 bytes, little-endian) and that many bytes:

    to the child    O  msgpack [path, start, size]             open these bytes of a file
                    X                                           send the index
                    R  msgpack [dataset path, start, count]    send decoded bytes of a dataset
    from the child  I  msgpack list of records                 a part of the index
                    D  bytes                                    what was asked for
                    E  msgpack [kind, message]                 an error; `kind` names its class
                    .                                           done
"""

from __future__ import annotations

from typing import BinaryIO

OPEN, INDEX, READ = b"O", b"X", b"R"
RECORDS, DATA, ERROR, DONE = b"I", b"D", b"E", b"."


def write_frame(stream: BinaryIO, kind: bytes, payload: bytes = b"") -> None:
    stream.write(kind + len(payload).to_bytes(4, "little"))
    stream.write(payload)
