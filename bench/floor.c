// What no server of these calls can spare: taking a request's bytes from the kernel and giving it an answer's, with
// nothing done in between. Nanoseconds of processor a call (or a watch event) on the server's side, on loopback.
//
//   cc -O2 -o /tmp/floor bench/floor.c && /tmp/floor
//
// A call is a `recv` and a `send` where each caller has a connection; with 64 callers on one connection what has come
// is read at once and answered at once. A watch event is copied into its connection's buffer and sent in pieces of
// 32 KiB. Sizes are those of `load`'s calls with keys of 64 bytes and values of 1 KiB, HTTP/2 and gRPC framing included.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 32 << 10, CONNS_MAX = 64 };

static char buffer[1 << 20];

static void or_end(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

static double used_ns(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e9 + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e3;
}

static void pairs(int count, int *ours, int *theirs) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    or_end(!bind(listener, (void *)&at, len) && !listen(listener, count) && !getsockname(listener, (void *)&at, &len),
           "a listener");
    for (int i = 0; i < count; i++) {
        theirs[i] = socket(AF_INET, SOCK_STREAM, 0);
        or_end(!connect(theirs[i], (void *)&at, sizeof at), "connect");
        ours[i] = accept(listener, NULL, NULL);
        setsockopt(ours[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(theirs[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    close(listener);
}

static void send_all(int fd, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t sent = send(fd, buffer + done, len - done, MSG_NOSIGNAL);
        or_end(sent > 0, "send");
        done += sent;
    }
}

static int watched(int count, int *fds) {
    int epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    return epoll;
}

// One side of calls: whenever as much as `in` has come it sends `out`, as often as it came.
static void turn(int count, int *fds, size_t in, size_t out, long calls) {
    int epoll = watched(count, fds);
    size_t have[CONNS_MAX] = {0};
    struct epoll_event events[CONNS_MAX];
    while (calls > 0) {
        int ready = epoll_wait(epoll, events, CONNS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            int at = events[i].data.u32;
            ssize_t got = recv(fds[at], buffer, sizeof buffer, 0);
            if (got <= 0) return;
            have[at] += got;
            size_t whole = have[at] / in;
            have[at] %= in;
            calls -= whole;
            if (whole) send_all(fds[at], whole * out);
        }
    }
}

static void calls(const char *what, int conns, size_t request, size_t answer, long count) {
    int ours[CONNS_MAX], theirs[CONNS_MAX];
    pairs(conns, ours, theirs);
    if (!fork()) {
        for (int i = 0; i < conns; i++) {
            close(ours[i]);
            send_all(theirs[i], 64 / conns * request);
        }
        turn(conns, theirs, answer, request, count);
        _exit(0);
    }
    for (int i = 0; i < conns; i++) close(theirs[i]);
    double before = used_ns();
    turn(conns, ours, request, answer, count);
    printf("| %s | %.0f |\n", what, (used_ns() - before) / count);
    for (int i = 0; i < conns; i++) close(ours[i]);
    wait(NULL);
}

static void events(const char *what, int conns, size_t event, size_t piece, long count) {
    int ours[CONNS_MAX], theirs[CONNS_MAX];
    static char shared[4096];
    pairs(conns, ours, theirs);
    if (!fork()) {
        for (int i = 0; i < conns; i++) close(ours[i]);
        int epoll = watched(conns, theirs), open = conns;
        struct epoll_event found[CONNS_MAX];
        while (open > 0) {
            int ready = epoll_wait(epoll, found, CONNS_MAX, -1);
            for (int i = 0; i < ready; i++) {
                int at = found[i].data.u32;
                if (recv(theirs[at], buffer, sizeof buffer, 0) > 0) continue;
                epoll_ctl(epoll, EPOLL_CTL_DEL, theirs[at], NULL);
                open--;
            }
        }
        _exit(0);
    }
    for (int i = 0; i < conns; i++) close(theirs[i]);
    double before = used_ns();
    size_t gathered = 0;
    for (long sent = 0, at = 0; sent < count; sent++) {
        memcpy(buffer + gathered, shared, event);
        gathered += event;
        if (gathered + event <= piece) continue;
        send_all(ours[at++ % conns], gathered);
        gathered = 0;
    }
    printf("| %s | %.0f |\n", what, (used_ns() - before) / count);
    for (int i = 0; i < conns; i++) close(ours[i]);
    wait(NULL);
}

int main(void) {
    printf("| no more than the bytes | ns |\n|---|---:|\n");
    fflush(stdout);
    for (int round = 0; round < 3; round++) {
        calls("put 1 KB, 64 connections, one caller each", 64, 1180, 90, 300000);
        calls("get 1 KB, 64 connections, one caller each", 64, 120, 1230, 300000);
        calls("put 1 KB, 64 callers on one connection", 1, 1180, 90, 1000000);
        calls("get 1 KB, 64 callers on one connection", 1, 120, 1230, 1000000);
        calls("keepalive, 64 callers on one connection", 1, 40, 70, 3000000);
        events("watch event of 1.1 KB, 10 connections, sent by 10 of one connection", 10, 1130, 11300, 1000000);
        events("watch event of 1.1 KB, 10 connections, in pieces of 32 KiB", 10, 1130, PIECE, 1000000);
        fflush(stdout);
    }
    return 0;
}
