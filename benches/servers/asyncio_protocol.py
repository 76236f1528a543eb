"""The echo server on asyncio's protocols: a BufferedProtocol, so that the loop receives into memory that is there already."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'common'))
from echo_common import (BACKLOG, PREFIX, RECV_BYTES_MAX, address_argument, prepare_accepted, python_version,
                         say_listening)

# One buffer is enough for all connections: what is received is copied into the answer before the loop goes on.
BUFFER = memoryview(bytearray(RECV_BYTES_MAX))


class Echo(asyncio.BufferedProtocol):
    __slots__ = ('transport',)

    def connection_made(self, transport):
        self.transport = transport
        prepare_accepted(transport)

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, received):
        self.transport.write(PREFIX + BUFFER[:received])

    # A client that does not receive is not received from.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    # Without eof_received the transport would do the same: send what is queued, then close.
    def eof_received(self):
        return False


async def serve(host, port):
    server = await asyncio.get_running_loop().create_server(Echo, host, port, backlog=BACKLOG, reuse_address=True)
    say_listening(server.sockets[0])
    await server.serve_forever()


def main(version=None, run=asyncio.run):
    run(serve(*address_argument(version or 'asyncio of ' + python_version())))


if __name__ == '__main__':
    main()
