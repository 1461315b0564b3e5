/* Copies streams: one thread, one epoll, any number of (source, sink) pairs, no Python.
 *
 * A stream waits for one thing at a time: its source (nothing to read), its sink (no room), or a time (it is busy,
 * its sink fails, a pty has no slave). Whatever wakes it, pump() moves bytes until the stream has to wait again or
 * its turn is over, and then arms exactly that one wait. So a stream with a full sink reads nothing and costs
 * nothing, and nobody else waits for it. Every registration is EPOLLONESHOT: level-triggered when armed, so no edge
 * is lost, and silent afterwards, so a source that hung up behind a full sink does not spin (HUP cannot be masked).
 *
 * The thread alone changes streams and their fds. Python's calls prepend to `streams`, set `commands`, read the
 * atomic counters, and take `reports` and the list `ended`. The lock covers the links of both lists and `reports`;
 * it is never held across I/O, so no call from Python waits for a disk. Since Python only prepends and only the
 * thread unlinks, the thread walks `streams` without the lock.
 *
 * Man pages: epoll(7), eventfd(2), pthreads(7). epoll_pwait2(2) is called by number, as glibc has it since 2.35. */

#include "stream.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#define THREAD_STACK_SIZE (128 * 1024)
#define MS 1000 /* all times are in microseconds */
#define RETRY_MIN (100 * MS)
#define RETRY_MAX (1000 * MS)
#define HUNG_UP (200 * MS)
#define GATHER 50 /* in which a writer fills a third of a large pipe; the timer's slack is another 50 */
#define BUSY 32 /* bytes in a microsecond */
#define PIPE_SIZE (1024 * 1024)
#define BATCH 32
#define NEVER INT64_MAX

enum { START = 4 }; /* a command beside RELAY_FINISH and RELAY_CANCEL */

struct relay {
    pthread_mutex_t lock;
    pthread_t thread;
    pid_t owner;
    atomic_bool closing;
    int epoll_fd;
    int wake_fd;   /* Python to thread */
    int report_fd; /* thread to Python */
    int64_t give_up;
    uint64_t last_id;
    struct stream *_Atomic streams;
    struct stream *ended; /* for poll() to tell and free */
    int64_t now;
    _Atomic int64_t busy_since; /* when the thread was woken; 0 while it waits */
    int64_t next_due; /* not after the least due of all streams */
    bool burial;      /* a stream has ended since the last bury() */
    char scratch[SCRATCH_SIZE];
};

/* Notes an event for poll(). Bounded, as a stream has each kind at most once: a failure that follows an untold
 * recovery cancels it, and Python sees one long failure. */
static void report(relay *r, struct stream *s, int kind)
{
    pthread_mutex_lock(&r->lock);
    if (kind == RELAY_STALLED && (s->reports & RELAY_RESUMED))
        s->reports &= ~RELAY_RESUMED;
    else
        s->reports |= kind;
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->report_fd, 1);
}

static void wake_at(relay *r, struct stream *s, int64_t when)
{
    s->due = when;
    if (when < r->next_due)
        r->next_due = when;
}

/* False for what epoll refuses: regular files and /dev/null (EPERM), or anything when there is no memory. */
static bool wait_for(relay *r, struct stream *s, struct side *side, uint32_t events)
{
    struct epoll_event event = { .events = events | EPOLLONESHOT, .data = { .ptr = s } };
    if (epoll_ctl(r->epoll_fd, side->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, side->fd, &event) < 0)
        return false;
    side->registered = true;
    return true;
}

/* Without EPOLL_CTL_DEL a registration, and the pointer in it, would outlive our fd while somebody else holds a
 * duplicate of it: epoll keys on the open file description. bury() tells Python. */
static void end(relay *r, struct stream *s)
{
    if (s->source.registered)
        epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, s->source.fd, NULL);
    if (s->sink.registered)
        epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, s->sink.fd, NULL);
    stream_close(s);
    s->due = NEVER;
    s->ended = true;
    r->burial = true;
}

static bool given_up(const relay *r, const struct stream *s)
{
    return s->failing != NEVER && r->now - s->failing >= r->give_up;
}

static void sink_works(relay *r, struct stream *s)
{
    if (s->failing != NEVER)
        report(r, s, RELAY_RESUMED);
    s->failing = NEVER;
}

/* Told once, and tried again later and later. */
static void sink_failed(relay *r, struct stream *s)
{
    if (s->failing == NEVER) {
        s->failing = r->now;
        report(r, s, RELAY_STALLED);
    }
    int64_t failing = r->now - s->failing;
    s->retry_at = r->now + (failing < RETRY_MIN ? RETRY_MIN : failing < RETRY_MAX ? failing : RETRY_MAX);
    if (!given_up(r, s))
        wake_at(r, s, s->retry_at);
}

/* A busy stream has large pipes, and is looked at after a moment, not at the next write or read: so its writer and its
 * reader work meanwhile, and a wake-up is for many pages or lines. What counts is the rate of the last millisecond:
 * short messages that wait for an answer each are never that fast. Those of small streams stay, as users without
 * privileges have a budget (pipe-user-pages-soft). A refusal (EPERM) does not matter, but a small source would be full
 * for most of the moment. */
static bool gather(relay *r, struct stream *s)
{
    int64_t elapsed = r->now - s->looked_at;
    if (elapsed >= MS) {
        s->busy = s->copied >= PIPE_SIZE / 4 && s->copied - s->copied_then >= (uint64_t)elapsed * BUSY;
        s->looked_at = r->now;
        s->copied_then = s->copied;
    }
    if (s->busy && !s->room) {
        fcntl(s->sink.fd, F_SETPIPE_SZ, PIPE_SIZE);
        s->room = fcntl(s->source.fd, F_SETPIPE_SZ, PIPE_SIZE);
    }
    if (!s->busy || s->room < 0)
        return false;
    wake_at(r, s, r->now + GATHER);
    return true;
}

/* Moves bytes until the stream has to wait, then arms that wait; or until its turn is over. */
static void pump(relay *r, struct stream *s)
{
    uint64_t moved = 0;
    s->due = NEVER;
    while (s->due == NEVER && moved < TURN_SIZE) {
        uint64_t before = s->copied + s->dropped;
        enum outcome outcome = stream_step(s, r->scratch, given_up(r, s) && r->now < s->retry_at);
        uint64_t step = s->copied + s->dropped - before;
        moved += step;
        switch (outcome) {
        case MOVED:
            sink_works(r, s);
            if (step < SPLICE_MIN)
                gather(r, s);
            break;
        case DISCARDED:
        case SOURCE_ENDED:
            break;
        case SOURCE_EMPTY:
            if (!(moved && gather(r, s)) && !wait_for(r, s, &s->source, EPOLLIN))
                wake_at(r, s, r->now + RETRY_MIN);
            return;
        case SOURCE_HUNG_UP: /* EPOLLHUP stays set until somebody opens a slave: only time helps */
            wake_at(r, s, r->now + HUNG_UP);
            break;
        case SINK_FULL: /* but a file is never full: with nothing left to write it was the source that blocked */
            sink_works(r, s);
            if (!(moved && gather(r, s)) && !wait_for(r, s, &s->sink, EPOLLOUT)
                && (s->rest || !wait_for(r, s, &s->source, EPOLLIN)))
                wake_at(r, s, r->now + RETRY_MIN);
            return;
        case SINK_FAILED:
            sink_failed(r, s);
            break;
        case DONE:
            end(r, s);
            return;
        }
    }
    if (s->due == NEVER)
        wake_at(r, s, r->now);
}

/* Does what Python asked for since the last time. */
static void obey(relay *r)
{
    eventfd_t ignored;
    eventfd_read(r->wake_fd, &ignored); /* before the commands are read: what comes later wakes again */
    for (struct stream *s = r->streams; s; s = s->next) {
        int commands = s->ended ? 0 : atomic_exchange(&s->commands, 0);
        if (commands & RELAY_FINISH)
            stream_finish(s);
        if (commands & RELAY_CANCEL) {
            stream_drop(s);
            end(r, s);
        } else if (commands) {
            pump(r, s);
        }
    }
}

static void pump_due(relay *r)
{
    if (r->now < r->next_due)
        return;
    r->next_due = NEVER;
    for (struct stream *s = r->streams; s; s = s->next) {
        if (s->due <= r->now)
            pump(r, s);
        else
            wake_at(r, s, s->due);
    }
}

/* Hands ended streams to poll(), which frees them; at the end of a round, when no epoll event can name them. */
static void bury(relay *r)
{
    if (!r->burial)
        return;
    r->burial = false;
    pthread_mutex_lock(&r->lock);
    struct stream *_Atomic *link = &r->streams;
    for (struct stream *s = *link; s; s = *link) {
        if (!s->ended) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        s->reports |= RELAY_END;
        s->next = r->ended;
        r->ended = s;
    }
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->report_fd, 1);
}

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec / 1000;
}

/* The thread. All signals are blocked in it: SIGPIPE becomes EPIPE, SIGXFSZ becomes EFBIG.
 * While a stream is busy its writer goes first, where it needs this CPU; with a CPU to spare the yield does nothing. */
static void *run(void *argument)
{
    relay *r = argument;
    struct epoll_event events[BATCH];
    while (!r->closing) {
        int64_t left = r->next_due > r->now ? r->next_due - r->now : 0;
        struct timespec timeout = { left / (1000 * MS), left % (1000 * MS) * 1000 };
        r->busy_since = 0;
        long count = syscall(SYS_epoll_pwait2, r->epoll_fd, events, BATCH,
                             r->next_due == NEVER ? NULL : &timeout, NULL, (size_t)0);
        r->now = r->busy_since = clock_now();
        for (long i = 0; i < count; i++) {
            struct stream *s = events[i].data.ptr;
            if (!s)
                obey(r);
            else if (!s->ended)
                pump(r, s);
        }
        pump_due(r);
        bury(r);
        if (r->next_due - r->now <= GATHER)
            sched_yield();
    }
    return NULL;
}

/* Returns a negative errno, or 0. */
static int start_thread(relay *r)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&r->thread, &attributes, run, r);
    if (!error)
        pthread_setname_np(r->thread, "ocishim-relay");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

static void free_relay(relay *r)
{
    close(r->epoll_fd); /* or -1, which is EBADF */
    close(r->wake_fd);
    close(r->report_fd);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Python gets a running relay, or a negative errno. */
int relay_new(int64_t give_up_ms, relay **result)
{
    relay *r = malloc(sizeof(*r));
    if (!r)
        return -ENOMEM;
    memset(r, 0, offsetof(relay, scratch)); /* the scratch stays untouched, no memory, until a stream needs it */
    pthread_mutex_init(&r->lock, NULL);
    r->owner = getpid();
    r->give_up = give_up_ms < 0 ? NEVER : give_up_ms * MS;
    r->next_due = NEVER;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->report_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN };
    bool ready = r->epoll_fd >= 0 && r->wake_fd >= 0 && r->report_fd >= 0
                 && epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event) == 0;
    int error = ready ? start_thread(r) : -errno;
    if (error)
        free_relay(r);
    else
        *result = r;
    return error;
}

/* The eventfd that is readable while poll() has something. */
int relay_fileno(const relay *r)
{
    return r->report_fd;
}

/* How long the thread has been at its present round: milliseconds, unless a write hangs. */
int64_t relay_busy_ms(const relay *r)
{
    int64_t since = r->busy_since;
    return since ? (clock_now() - since) / MS : 0;
}

/* Python gets the id of the new stream, or a negative errno; both fds are the relay's in any case. */
int64_t relay_add(relay *r, int source_fd, int sink_fd, const char *eof, size_t eof_len, int pty)
{
    struct stream *s;
    int error = stream_new(&s, source_fd, sink_fd, eof, eof_len, pty);
    if (error)
        return error;
    s->due = s->failing = NEVER;
    s->commands = START;
    pthread_mutex_lock(&r->lock);
    uint64_t id = s->id = ++r->last_id;
    s->next = r->streams;
    r->streams = s;
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->wake_fd, 1);
    return (int64_t)id;
}

/* The live stream of this id, or NULL; the lock is held. */
static struct stream *find(const relay *r, uint64_t id)
{
    struct stream *s = r->streams;
    while (s && s->id != id)
        s = s->next;
    return s;
}

/* RELAY_FINISH or RELAY_CANCEL; nothing for a stream that has ended. */
void relay_command(relay *r, uint64_t stream, int what)
{
    pthread_mutex_lock(&r->lock);
    struct stream *s = find(r, stream);
    if (s)
        atomic_fetch_or(&s->commands, what);
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->wake_fd, 1);
}

/* Bytes taken from the source and not yet written. */
uint64_t relay_pending(relay *r, uint64_t stream)
{
    pthread_mutex_lock(&r->lock);
    const struct stream *s = find(r, stream);
    uint64_t bytes = s ? s->rest_len : 0;
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

/* Writes the events of one stream in the order in which they make sense; returns the place for the next one.
 * What was dropped is told when the sink works again and at the end, not while the count still runs. */
static relay_event *take_reports(struct stream *s, relay_event *event)
{
    uint64_t dropped = s->dropped;
    if ((s->reports & (RELAY_RESUMED | RELAY_END)) && dropped != s->dropped_told) {
        s->reports |= RELAY_DROPPED;
        s->dropped_told = dropped;
    }
    for (int kind = RELAY_STALLED; kind <= RELAY_END; kind <<= 1) {
        if (!(s->reports & kind))
            continue;
        int error = kind == RELAY_END ? s->ended_by : kind == RELAY_RESUMED ? 0 : s->failed_by;
        *event++ = (relay_event){ s->id, s->copied, dropped, kind, error };
    }
    s->reports = 0;
    return event;
}

/* Python gets the number of events. Each stream may have 4: when fewer places than that are left there may be more
 * to take, and Python calls again. */
size_t relay_poll(relay *r, relay_event *events, size_t room)
{
    relay_event *event = events;
    const relay_event *last = events + room - 4;
    eventfd_t ignored;
    pthread_mutex_lock(&r->lock);
    eventfd_read(r->report_fd, &ignored);
    for (struct stream *s = r->streams; s && event <= last; s = s->next)
        event = take_reports(s, event);
    while (r->ended && event <= last) {
        struct stream *s = r->ended;
        r->ended = s->next;
        event = take_reports(s, event);
        free(s);
    }
    pthread_mutex_unlock(&r->lock);
    return (size_t)(event - events);
}

static void free_streams(struct stream *s)
{
    while (s) {
        struct stream *next = s->next;
        if (!s->ended)
            stream_close(s);
        free(s);
        s = next;
    }
}

/* Joins the thread, closes every fd. In a fork of the process that made the relay there is no thread to join, and
 * nothing is done. */
void relay_close(relay *r)
{
    if (r->owner != getpid())
        return;
    r->closing = true;
    eventfd_write(r->wake_fd, 1);
    pthread_join(r->thread, NULL);
    free_streams(r->streams);
    free_streams(r->ended);
    free_relay(r);
}
