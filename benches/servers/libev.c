/* The echo server on libev: one ev_io watcher a connection, started once. */

#include "common/echo.h"
#include <ev.h>

#define QUOTE(number) #number
#define TEXT(number) QUOTE(number)
#define VERSION(major, minor) "libev " TEXT(major) "." TEXT(minor)

struct connection {
    ev_io io;
    struct left left;
};

static void on_connection(struct ev_loop *loop, ev_io *io, int fired) {
    struct connection *connection = (struct connection *)io;
    (void)fired;
    enum after after = connection->left.bytes ? echo_flush(io->fd, &connection->left) : echo_receive(io->fd, &connection->left);
    if (after == CLOSE) {
        ev_io_stop(loop, io);
        close(io->fd);
        forget_left(&connection->left);
        free(connection);
        return;
    }
    int wanted = after == WAIT_SEND ? EV_WRITE : EV_READ;
    if (!(io->events & wanted)) {
        ev_io_stop(loop, io);
        ev_io_set(io, io->fd, wanted);
        ev_io_start(loop, io);
    }
}

static void on_listener(struct ev_loop *loop, ev_io *io, int fired) {
    (void)fired;
    int fd = accept_next(io->fd);
    if (fd < 0)
        return;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("calloc");
    ev_io_init(&connection->io, on_connection, fd, EV_READ);
    ev_io_start(loop, &connection->io);
}

int main(int argc, char **argv) {
    int listener = listen_on(address_argument(argc, argv, VERSION(EV_VERSION_MAJOR, EV_VERSION_MINOR)));
    struct ev_loop *loop = ev_default_loop(EVFLAG_AUTO);
    ev_io accepting;
    ev_io_init(&accepting, on_listener, listener, EV_READ);
    ev_io_start(loop, &accepting);
    ev_run(loop, 0);
}
