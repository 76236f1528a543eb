/* The echo server on libevent: persistent events on the descriptors themselves, without the buffers of a bufferevent, and
 * without the locks that a single thread does not need. */

#include "common/echo.h"
#include <event2/event.h>
#include <event2/event_struct.h>

struct connection {
    struct event event;
    struct left left;
};

static void on_connection(evutil_socket_t fd, short fired, void *argument);

static void watch(struct event_base *base, struct connection *connection, int fd, short what) {
    event_assign(&connection->event, base, fd, what | EV_PERSIST, on_connection, connection);
    if (event_add(&connection->event, NULL) < 0)
        fail("event_add");
}

static void on_connection(evutil_socket_t fd, short fired, void *argument) {
    struct connection *connection = argument;
    bool was_sending = fired & EV_WRITE;
    enum after after = was_sending ? echo_flush(fd, &connection->left) : echo_receive(fd, &connection->left);
    if (after == CLOSE) {
        event_del(&connection->event);
        close(fd);
        forget_left(&connection->left);
        free(connection);
    } else if (was_sending != (after == WAIT_SEND)) {
        struct event_base *base = event_get_base(&connection->event);
        event_del(&connection->event);
        watch(base, connection, fd, after == WAIT_SEND ? EV_WRITE : EV_READ);
    }
}

static void on_listener(evutil_socket_t listener, short fired, void *base) {
    (void)fired;
    int fd = accept_next(listener);
    if (fd < 0)
        return;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("calloc");
    watch(base, connection, fd, EV_READ);
}

int main(int argc, char **argv) {
    int listener = listen_on(address_argument(argc, argv, "libevent " LIBEVENT_VERSION));
    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    struct event accepting;
    event_assign(&accepting, base, listener, EV_READ | EV_PERSIST, on_listener, base);
    event_add(&accepting, NULL);
    event_base_dispatch(base);
}
