# The 55 lines that fdtask grew from, with as little changed as a measurement needs: the address is an argument, the first
# line says where the server listens, nothing is printed for a connection, backlog and TCP_NODELAY are everybody's, and a
# connection is closed at its end: left to the garbage collector, it stayed open until another task was resumed.

import sys
from pathlib import Path
from socket import *
from select import select
from collections import deque

sys.path.insert(0, str(Path(__file__).parent / 'common'))
from echo_common import BACKLOG, NODELAY, address_argument, python_version, say_listening

tasks = deque()
recv_wait = {}   #  sock -> task
send_wait = {}   #  sock -> task

def run():
    while any([tasks, recv_wait, send_wait]):
        while not tasks:
            can_recv, can_send, _ = select(recv_wait, send_wait, [])
            for s in can_recv:
                tasks.append(recv_wait.pop(s))
            for s in can_send:
                tasks.append(send_wait.pop(s))
        task = tasks.popleft()
        try:
            reason, resource = task.send(None)
            if reason == 'recv':
                recv_wait[resource] = task
            elif reason == 'send':
                send_wait[resource] = task
            else:
                raise RuntimeError('Unknown reason %r' % reason)
        except StopIteration:
            pass

def tcp_server(address, handler):
    sock = socket(AF_INET, SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.bind(address)
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, NODELAY)
    sock.listen(BACKLOG)
    say_listening(sock)
    while True:
        yield 'recv', sock
        client, addr = sock.accept()
        tasks.append(handler(client, addr))

def echo_handler(client, address):
    while True:
        yield 'recv', client
        data = client.recv(1000)
        if not data:
            break
        yield 'send', client
        client.send(b'GOT:' + data)
    client.close()

if __name__ == '__main__':
    tasks.append(tcp_server(address_argument('select of ' + python_version()), echo_handler))
    run()
