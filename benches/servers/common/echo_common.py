"""What the Python peers share: the behaviour that must be the same for all of them, and nothing of their loops."""

import os
import socket
import sys

PREFIX = b'GOT:'
RECV_BYTES_MAX = 1000
BACKLOG = 4096


def address_argument(version):
    """Reads the command line: `--version` prints the version and ends, anything else is the address to listen on."""
    argument = sys.argv[1] if len(sys.argv) > 1 else '127.0.0.1:0'
    if argument == '--version':
        print(version)
        sys.exit(0)
    host, port = argument.rsplit(':', 1)
    return host, int(port)


def say_listening(sock):
    """Says where the server listens, which is the one line it prints."""
    print('Listening on %s:%d' % sock.getsockname()[:2], flush=True)


def python_version():
    return 'CPython %d.%d.%d' % sys.version_info[:3]


# The runner decides about TCP_NODELAY, once for all servers.
NODELAY = 'ECHO_TCP_NODELAY' in os.environ


def prepare_accepted(transport):
    """asyncio and uvloop set TCP_NODELAY by themselves, so it is taken back where it is not wanted."""
    if not NODELAY:
        transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
