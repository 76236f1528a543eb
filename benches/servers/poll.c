/* The echo server on poll(2) alone: one dense array, the last entry moves into the place of a closed one. */

#include "common/echo.h"
#include <poll.h>

static struct pollfd *entries;
static nfds_t count, capacity;
static struct left *left;

static void watch(int fd) {
    if (count == capacity) {
        capacity = capacity ? capacity * 2 : 64;
        entries = realloc(entries, capacity * sizeof *entries);
        if (!entries)
            fail("realloc");
    }
    entries[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void serve(nfds_t at) {
    int fd = entries[at].fd;
    enum after after = left[fd].bytes ? echo_flush(fd, &left[fd]) : echo_receive(fd, &left[fd]);
    if (after != CLOSE) {
        entries[at].events = after == WAIT_SEND ? POLLOUT : POLLIN;
        return;
    }
    forget_left(&left[fd]);
    close(fd);
    entries[at] = entries[--count];
}

int main(int argc, char **argv) {
    int listener = listen_on(address_argument(argc, argv, "C, no library, cc " __VERSION__));
    left = left_table();
    watch(listener);
    for (;;) {
        int fired = poll(entries, count, -1);
        if (fired < 0 && errno != EINTR)
            fail("poll");
        bool accepting = fired > 0 && entries[0].revents;
        fired -= accepting;
        /* Backwards, so that what moves into a closed one's place has had its turn. */
        for (nfds_t at = count - 1; at > 0 && fired > 0; at--) {
            if (entries[at].revents) {
                fired--;
                serve(at);
            }
        }
        /* Each poll looks at every entry, so it pays here to ask until there is no more. */
        for (int fd; accepting && (fd = accept_next(listener)) >= 0;)
            watch(fd);
    }
}
