"""Run a command in a fresh network namespace after its loopback interface is up: `unshare --net with_loopback.py X`."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SET_FLAGS = 0x8914  # SIOCSIFFLAGS of linux/sockios.h
_UP = 1  # IFF_UP of linux/if.h

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    fcntl.ioctl(one, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))
os.execvp(sys.argv[1], sys.argv[1:])
