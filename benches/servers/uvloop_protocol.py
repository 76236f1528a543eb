"""The echo server on uvloop: the same protocol as asyncio's, on libuv."""

import uvloop

import asyncio_protocol

if __name__ == '__main__':
    version = 'uvloop %s, %s' % (uvloop.__version__, asyncio_protocol.python_version())
    asyncio_protocol.main(version, uvloop.run)
