// sse.c - SSE load client for the stub behind a gateway.
//
// usage: BENCH_KEY=… sse PORT CONC REQS_PER_CONN [-m MODEL] [-P PATH] [-g STAGGER_US] [-t MAX_SECONDS] [-b EXTRA_BODY_BYTES] [-H "Name: value"]...
//
// Opens CONC keep-alive connections to 127.0.0.1:PORT and makes REQS_PER_CONN streaming requests on each, one
// after another.  The stub stamps each content event with CLOCK_MONOTONIC ns; this client reads the same clock
// on the same machine, so "lat" is the one-way time stub-write -> client-read, gateway included.
// Prints one JSON object.  "gap" is the time between successive content events on one stream.
//
// cc -O2 -o sse sse.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct { int fd, left, state, first; uint64_t t0, start_at, last; char buf[1 << 17]; size_t n, scan; int done; } conn;
enum { WAIT, BUSY, OVER };

static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec; }
typedef struct { uint64_t *v; size_t n, cap; } vec;
static void add(vec *a, uint64_t x) { if (a->n == a->cap) { a->cap = a->cap ? a->cap * 2 : 65536; a->v = realloc(a->v, a->cap * 8); } a->v[a->n++] = x; }
static int cmp(const void *a, const void *b) { uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b; return x < y ? -1 : x > y; }
static double pct(vec *a, double p) { if (!a->n) return -1; size_t i = (size_t)(p * (a->n - 1) + .5); return a->v[i] / 1000.0; }

static char *req; static int reqn, port, ep;
static vec ttft, lat, gap, total; static uint64_t done_reqs, chunks, errors, bytes, reads;

static int dial(conn *c) {
    int one = 1; c->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (void *)&a, sizeof a)) { perror("connect"); return -1; }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {EPOLLIN, {.ptr = c}}; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    return 0;
}
static void fire(conn *c) {
    c->n = c->scan = 0; c->first = 1; c->done = 0; c->last = 0; c->state = BUSY; c->t0 = now_ns();
    if (send(c->fd, req, reqn, MSG_NOSIGNAL) != reqn) { errors++; }
}
static void finish(conn *c, int ok, int closed) {
    if (ok) { done_reqs++; add(&total, now_ns() - c->t0); } else errors++;
    if (closed) { close(c->fd); if (c->left > 1) dial(c); }
    if (--c->left > 0) fire(c); else { c->state = OVER; if (!closed) { epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0); close(c->fd); } }
}

int main(int ac, char **av) {
    if (ac < 4) return 2;
    port = atoi(av[1]); int conc = atoi(av[2]), per = atoi(av[3]), extra = 0;
    const char *key = getenv("BENCH_KEY") ? getenv("BENCH_KEY") : "sk-bench-0123456789abcdef", *model = "stub-model", *path = "/v1/chat/completions";
    uint64_t stagger = 0; double maxs = 60; char hdrs[4096] = "";
    for (int i = 4; i + 1 < ac; i += 2) switch (av[i][1]) {
        case 'm': model = av[i + 1]; break; case 'P': path = av[i + 1]; break;
        case 'g': stagger = atoll(av[i + 1]); break; case 't': maxs = atof(av[i + 1]); break; case 'b': extra = atoi(av[i + 1]); break;
        case 'H': strcat(hdrs, av[i + 1]); strcat(hdrs, "\r\n"); break; }
    signal(SIGPIPE, SIG_IGN);
    char *pad = malloc(extra + 1); memset(pad, 'x', extra); pad[extra] = 0;
    char *body = malloc(extra + 4096);
    int bn = sprintf(body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant. Answer briefly and to the point.\"},"
        "{\"role\":\"user\",\"content\":\"Write one hundred short words about benchmarks.%s\"}],\"temperature\":0.7,\"top_p\":0.95,\"max_tokens\":100,"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}}", model, pad);
    req = malloc(bn + 8192);
    reqn = sprintf(req, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        "User-Agent: OpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\n%sContent-Length: %d\r\n\r\n%s", path, port, key, hdrs, bn, body);
    ep = epoll_create1(0);
    conn *cs = calloc(conc, sizeof *cs);
    int late = stagger * conc > 1000000;   // gateways close connections on which nothing is asked for seconds
    for (int i = 0; i < conc && !late; i++) if (dial(&cs[i])) return 1;
    uint64_t t0 = now_ns() + 1000000; int next = 0, live = conc;
    for (int i = 0; i < conc; i++) { cs[i].left = per; cs[i].start_at = t0 + i * stagger * 1000; }
    struct epoll_event evs[256]; uint64_t deadline = t0 + (uint64_t)(maxs * 1e9);
    while (live) {
        uint64_t t = now_ns(); if (t > deadline) break;
        while (next < conc && cs[next].start_at <= t) { if (late && dial(&cs[next])) return 1; fire(&cs[next++]); }
        uint64_t w = next < conc ? cs[next].start_at - t : 200000000;
        struct timespec ts = {w / 1000000000, w % 1000000000};
        int k = epoll_pwait2(ep, evs, 256, &ts, 0);
        for (int i = 0; i < k; i++) {
            conn *c = evs[i].data.ptr; if (c->state == OVER) continue;
            ssize_t r = recv(c->fd, c->buf + c->n, sizeof c->buf - c->n - 1, MSG_DONTWAIT);
            uint64_t t = now_ns(); reads++;
            if (r <= 0) { if (r < 0 && errno == EAGAIN) continue; if (c->state == BUSY) finish(c, c->done, 1); if (c->state == OVER) live--; continue; }
            bytes += r; c->n += r; c->buf[c->n] = 0;
            if (c->state != BUSY) continue;
            char *p;
            while ((p = memmem(c->buf + c->scan, c->n - c->scan, "\"T", 2)) && p + 21 <= c->buf + c->n) {
                uint64_t st = strtoull(p + 2, 0, 10); add(&lat, t > st ? t - st : 0); chunks++;
                if (c->first) { add(&ttft, t - c->t0); c->first = 0; } else add(&gap, t - c->last);
                c->last = t; c->scan = p + 21 - c->buf;
            }
            if (!c->done) {
                char *d = memmem(c->buf + c->scan, c->n - c->scan, "[DONE]", 6);
                if (d) c->done = 1;
                else if (c->scan == 0 && c->n > 12 && memcmp(c->buf + 9, "200", 3) && memmem(c->buf, c->n, "\r\n\r\n", 4)) {
                    if (errors < 2) fprintf(stderr, "bad reply: %.600s\n", c->buf);
                    finish(c, 0, 1); if (c->state == OVER) live--; continue; }
            }
            if (c->done && c->n >= 5 && !memcmp(c->buf + c->n - 5, "0\r\n\r\n", 5)) { finish(c, 1, 0); if (c->state == OVER) live--; continue; }
            if (!c->done && c->scan > sizeof c->buf / 2) { memmove(c->buf, c->buf + c->scan, c->n - c->scan); c->n -= c->scan; c->scan = 0; }
        }
    }
    double el = (now_ns() - t0) / 1e9;
    qsort(ttft.v, ttft.n, 8, cmp); qsort(lat.v, lat.n, 8, cmp); qsort(gap.v, gap.n, 8, cmp); qsort(total.v, total.n, 8, cmp);
    struct rusage ru; getrusage(RUSAGE_SELF, &ru);
    printf("{\"reqs\":%llu,\"errors\":%llu,\"unfinished\":%d,\"chunks\":%llu,\"bytes\":%llu,\"reads\":%llu,\"secs\":%.3f,\"chunks_s\":%.0f,"
           "\"ttft_p50\":%.1f,\"ttft_p99\":%.1f,\"lat_p50\":%.1f,\"lat_p99\":%.1f,\"gap_p50\":%.1f,\"gap_p99\":%.1f,\"total_p50\":%.1f,\"client_cpu_s\":%.3f}\n",
        (unsigned long long)done_reqs, (unsigned long long)errors, live, (unsigned long long)chunks, (unsigned long long)bytes, (unsigned long long)reads, el, chunks / el,
        pct(&ttft, .5), pct(&ttft, .99), pct(&lat, .5), pct(&lat, .99), pct(&gap, .5), pct(&gap, .99), pct(&total, .5),
        ru.ru_utime.tv_sec + ru.ru_utime.tv_usec / 1e6 + ru.ru_stime.tv_sec + ru.ru_stime.tv_usec / 1e6);
    return errors != 0;
}
