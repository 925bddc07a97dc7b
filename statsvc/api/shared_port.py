"""A port that several processes listen on: the kernel gives each new connection to one of them (Linux).

It goes on giving some to a process that is about to close its socket, and resets those that wait there then.
So first no new one is let in: a filter on the socket drops the packets that begin a connection. Their
clients send them again after a second, when the kernel has only the other processes to choose from.
"""

import ctypes
import socket
import struct
import sys

SUPPORTED = sys.platform == "linux"
_SO_ATTACH_FILTER = 26
_FLAGS_OFFSET = 13
_SYN, _SYN_OR_ACK = 0x02, 0x12
_INSTRUCTION = "HBBI"
_DROP_WHAT_BEGINS = b"".join(
    # Classic BPF, of a TCP header: let pass unless of these two flags only SYN is set.
    struct.pack(_INSTRUCTION, *instruction)
    for instruction in (
        (0x30, 0, 0, _FLAGS_OFFSET),  # load a byte
        (0x54, 0, 0, _SYN_OR_ACK),  # and
        (0x15, 0, 1, _SYN),  # equal, or skip one
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # pass, whole
    )
)


def let_none_begin(listening: socket.socket) -> None:
    """From now on no connection begins on this socket; handshakes under way end as ever."""
    program = ctypes.create_string_buffer(_DROP_WHAT_BEGINS)
    instructions = len(_DROP_WHAT_BEGINS) // struct.calcsize(_INSTRUCTION)
    filtering = struct.pack("HP", instructions, ctypes.addressof(program))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
