/* The echo server on libuv: uv_try_write first, a queued uv_write only for what it left over. */

#define ECHO_LIBRARY_OWNS_SOCKETS
#include "common/echo.h"
#include <uv.h>

/* What a short send left over: there is one only while it is being sent. */
struct rest {
    uv_write_t write;
    char bytes[];
};

static void on_closed(uv_handle_t *connection) {
    free(connection);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(reply + PREFIX_BYTES, RECV_BYTES_MAX);
}

static void on_read(uv_stream_t *stream, ssize_t received, const uv_buf_t *buffer);

/* Is called for a connection that is closed meanwhile, too. */
static void on_rest_sent(uv_write_t *write, int status) {
    uv_stream_t *connection = write->handle;
    free(write->data);
    if (uv_is_closing((uv_handle_t *)connection))
        return;
    if (status < 0)
        uv_close((uv_handle_t *)connection, on_closed);
    else
        uv_read_start(connection, on_alloc, on_read);
}

/* Reading stops until the rest is sent: a client that does not receive is not received from. */
static void send_later(uv_stream_t *connection, size_t sent, size_t length) {
    struct rest *rest = malloc(sizeof *rest + length - sent);
    if (!rest)
        fail("malloc");
    memcpy(rest->bytes, reply + sent, length - sent);
    rest->write.data = rest;
    uv_buf_t bytes = uv_buf_init(rest->bytes, (unsigned)(length - sent));
    uv_read_stop(connection);
    if (uv_write(&rest->write, connection, &bytes, 1, on_rest_sent) < 0) {
        free(rest);
        uv_close((uv_handle_t *)connection, on_closed);
    }
}

static void on_read(uv_stream_t *stream, ssize_t received, const uv_buf_t *buffer) {
    (void)buffer;
    if (received == 0)
        return;
    if (received < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    size_t length = PREFIX_BYTES + (size_t)received;
    uv_buf_t answer = uv_buf_init(reply, (unsigned)length);
    int sent = uv_try_write(stream, &answer, 1);
    if (sent == (int)length)
        return;
    if (sent < 0 && sent != UV_EAGAIN)
        uv_close((uv_handle_t *)stream, on_closed);
    else
        send_later(stream, sent < 0 ? 0 : (size_t)sent, length);
}

static void on_connection(uv_stream_t *listener, int status) {
    uv_tcp_t *connection = malloc(sizeof *connection);
    if (status < 0 || !connection)
        fail("accept");
    uv_tcp_init(listener->loop, connection);
    if (uv_accept(listener, (uv_stream_t *)connection) < 0) {
        uv_close((uv_handle_t *)connection, on_closed);
        return;
    }
    uv_read_start((uv_stream_t *)connection, on_alloc, on_read);
}

static const char *version(void) {
    static char text[32];
    snprintf(text, sizeof text, "libuv %s", uv_version_string());
    return text;
}

int main(int argc, char **argv) {
    struct sockaddr_in address = address_argument(argc, argv, version());
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    uv_os_fd_t fd;
    uv_tcp_init(loop, &listener);
    /* uv_tcp_bind sets SO_REUSEADDR. */
    if (uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) < 0)
        fail("uv_tcp_bind");
    uv_fileno((uv_handle_t *)&listener, &fd);
    prepare_accepted(fd);
    if (uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) < 0)
        fail("uv_listen");
    say_listening(fd);
    return uv_run(loop, UV_RUN_DEFAULT);
}
