/* The echo server on epoll alone: level-triggered, every connection registered once. */

#include "common/echo.h"
#include <sys/epoll.h>

enum { EVENTS_PER_WAIT_MAX = 1024 };

static int epoll;
static struct left *left;

static void watch(int how, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, how, fd, &event) < 0)
        fail("epoll_ctl");
}

/* What fired is not looked at: a hang-up or an error is what the next receive or send returns. */
static void serve(int fd) {
    bool was_sending = left[fd].bytes != NULL;
    enum after after = was_sending ? echo_flush(fd, &left[fd]) : echo_receive(fd, &left[fd]);
    if (after == CLOSE) {
        forget_left(&left[fd]);
        close(fd);
    } else if (was_sending != (after == WAIT_SEND)) {
        watch(EPOLL_CTL_MOD, fd, after == WAIT_SEND ? EPOLLOUT : EPOLLIN);
    }
}

int main(int argc, char **argv) {
    int listener = listen_on(address_argument(argc, argv, "C, no library, cc " __VERSION__));
    static struct epoll_event events[EVENTS_PER_WAIT_MAX];
    left = left_table();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int fired = epoll_wait(epoll, events, EVENTS_PER_WAIT_MAX, -1);
        if (fired < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < fired; i++) {
            int fd = events[i].data.fd;
            if (fd != listener)
                serve(fd);
            else if ((fd = accept_next(listener)) >= 0)
                watch(EPOLL_CTL_ADD, fd, EPOLLIN);
        }
    }
}
