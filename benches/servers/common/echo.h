/* What the C peers share: the behaviour that must be the same for all of them, and nothing of their loops. */

#ifndef ECHO_H
#define ECHO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PREFIX_BYTES = 4, RECV_BYTES_MAX = 1000, BACKLOG = 4096 };

/* After so many receives in a row that fill the buffer, the others have their turn. libuv does as many. */
enum { RECEIVES_PER_TURN_MAX = 32 };

/* It already begins with the prefix: what is received goes behind it, and the whole is sent as it lies there. One is enough
 * for all connections, because an answer that could not be sent at once is copied out of it. */
static char reply[PREFIX_BYTES + RECV_BYTES_MAX] = "GOT:";

/* What a short send left over. It has memory only while there is something. */
struct left {
    char *bytes;
    size_t length;
    size_t sent;
};

enum after { WAIT_RECV, WAIT_SEND, CLOSE };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Reads the command line: `--version` prints the library's version and ends, anything else is the address to listen on. */
static struct sockaddr_in address_argument(int argc, char **argv, const char *version) {
    const char *argument = argc > 1 ? argv[1] : "127.0.0.1:0";
    char host[64];
    int port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (strcmp(argument, "--version") == 0) {
        puts(version);
        exit(0);
    }
    if (sscanf(argument, "%63[^:]:%d", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "not an address and a port: %s\n", argument);
        exit(2);
    }
    address.sin_port = htons((unsigned short)port);
    return address;
}

/* Says where the server listens, which is the one line it prints. */
static void say_listening(int listener) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    char host[INET_ADDRSTRLEN];
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        fail("getsockname");
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    printf("Listening on %s:%d\n", host, ntohs(address.sin_port));
    fflush(stdout);
}

/* Sets what accepted sockets are to have: on the listener, once, from which they inherit it. The runner decides about
 * TCP_NODELAY, for all servers. */
static inline void prepare_accepted(int listener) {
    int on = 1;
    if (getenv("ECHO_TCP_NODELAY") && setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("setsockopt TCP_NODELAY");
}

#ifndef ECHO_LIBRARY_OWNS_SOCKETS

static inline int listen_on(struct sockaddr_in address) {
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0)
        fail("socket");
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        fail("setsockopt SO_REUSEADDR");
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    prepare_accepted(listener);
    if (listen(listener, BACKLOG) < 0)
        fail("listen");
    say_listening(listener);
    return listener;
}

/* The next connection, or -1 when the kernel holds no more of them. An epoll that is level-triggered tells of the next one anyway,
 * so the servers on one ask once each time: to be told that there is no more would be a call in vain. */
static inline int accept_next(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0 && errno != EAGAIN)
            fail("accept4");
        return fd;
    }
}

/* Keeps what is left of an answer of which `sent` bytes were sent, or none. */
static inline enum after keep_left(struct left *left, size_t length, ssize_t sent) {
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return CLOSE;
    if (sent < 0)
        sent = 0;
    left->sent = 0;
    left->length = length - (size_t)sent;
    left->bytes = malloc(left->length);
    if (!left->bytes)
        return CLOSE;
    memcpy(left->bytes, reply + sent, left->length);
    return WAIT_SEND;
}

/* Receives a message and answers it, and the next one as long as the buffer is filled. */
static inline enum after echo_receive(int fd, struct left *left) {
    for (int turn = 0; turn < RECEIVES_PER_TURN_MAX; turn++) {
        ssize_t received = recv(fd, reply + PREFIX_BYTES, RECV_BYTES_MAX, 0);
        if (received <= 0)
            return received < 0 && (errno == EAGAIN || errno == EINTR) ? WAIT_RECV : CLOSE;
        size_t length = PREFIX_BYTES + (size_t)received;
        ssize_t sent = send(fd, reply, length, MSG_NOSIGNAL);
        if (sent != (ssize_t)length)
            return keep_left(left, length, sent);
        if (received < RECV_BYTES_MAX)
            break;
    }
    return WAIT_RECV;
}

static inline void forget_left(struct left *left) {
    free(left->bytes);
    left->bytes = NULL;
}

/* Sends what a short send left over. */
static inline enum after echo_flush(int fd, struct left *left) {
    ssize_t sent = send(fd, left->bytes + left->sent, left->length - left->sent, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? WAIT_SEND : CLOSE;
    left->sent += (size_t)sent;
    if (left->sent < left->length)
        return WAIT_SEND;
    forget_left(left);
    return WAIT_RECV;
}

/* One `struct left` for every descriptor there can be. The kernel gives memory only to the pages that are used. */
static inline struct left *left_table(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("getrlimit");
    struct left *table = calloc(limit.rlim_cur, sizeof *table);
    if (!table)
        fail("calloc");
    return table;
}

#endif
#endif
