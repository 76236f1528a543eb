"""The echo server on asyncio's streams: the flavour that the tutorials teach.

The transport under a stream receives into 256 KiB of new memory each time. That is asyncio's own choice, and a good part of
what this server costs.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'common'))
from echo_common import (BACKLOG, PREFIX, RECV_BYTES_MAX, address_argument, prepare_accepted, python_version,
                         say_listening)


async def echo(reader, writer):
    prepare_accepted(writer.transport)
    try:
        while data := await reader.read(RECV_BYTES_MAX):
            writer.write(PREFIX + data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(host, port):
    server = await asyncio.start_server(echo, host, port, backlog=BACKLOG, reuse_address=True)
    say_listening(server.sockets[0])
    await server.serve_forever()


if __name__ == '__main__':
    asyncio.run(serve(*address_argument('asyncio of ' + python_version())))
