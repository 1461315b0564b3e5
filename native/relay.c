/* Copies streams: one thread, one epoll, any number of (source, sink) pairs, no Python.
 *
 * A stream waits for one thing at a time: its source (nothing to read), its sink (no room), or a time (a sink that
 * fails, a pty without a slave). Whatever wakes it, pump() moves bytes until the stream has to wait again or its
 * turn is over, and then arms exactly that one wait. So a stream with a full sink reads nothing and costs nothing,
 * and nobody else waits for it. Every registration is EPOLLONESHOT: level-triggered when armed, so no edge is lost,
 * and silent afterwards, so a source that hung up behind a full sink does not spin (HUP cannot be masked).
 *
 * Pipe to anything is splice(2), without a copy; the rest goes through one scratch buffer that all streams share. A
 * stream owns memory for bytes only after a short write, at most SCRATCH_SIZE.
 *
 * Who owns what: the thread alone changes streams and their fds. Python's calls only prepend to `incoming`, set
 * `commands`, and take from `reports`. The lock covers those three and the links of both lists, and is never held
 * across I/O, so a call from Python waits for no disk. The thread, which alone changes `streams`, walks it unlocked.
 *
 * Man pages: epoll(7), splice(2), pipe(7), fifo(7), pty(7), eventfd(2), F_SETPIPE_SZ(2const). */

#include "native.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#define SCRATCH_SIZE (64 * 1024)
#define TURN_SIZE (1024 * 1024)       /* bytes before the other streams get their turn */
#define PIPE_SIZE (256 * 1024)        /* of busy pipes: twice the throughput of the default 64 KiB */
#define TTY_FINISH_SIZE (128 * 1024)  /* more than a tty can hold (64 KiB of flip buffers, 4 KiB of line) */
#define THREAD_STACK_SIZE (64 * 1024)
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000
#define BATCH 32
#define NEVER INT64_MAX

enum { START = 1, FINISH = 2, CANCEL = 4 };

enum outcome { MOVED, DISCARDED, SOURCE_EMPTY, SOURCE_HUNG_UP, SOURCE_ENDED, SINK_FULL, SINK_FAILED, DONE };

struct side {
    int fd;
    bool fifo;
    bool tty;
    bool registered; /* with epoll */
};

struct stream {
    struct stream *next;
    uint64_t id;
    struct side source;
    struct side sink;
    bool pty;
    bool splices;
    bool grown;
    bool finishing;
    bool source_ended;
    bool ended;
    uint64_t left; /* bytes that may still be taken from the source; limited by finish() */
    uint64_t copied;
    uint64_t dropped;
    uint64_t dropped_told;
    char *rest; /* taken and not yet written: [rest_at, rest_at + rest_len) of a block of our own */
    size_t rest_at;
    _Atomic size_t rest_len;
    int64_t due; /* when to pump without an event */
    int repoll_ms;
    bool stalled;
    bool discarding;
    int64_t stalled_at;
    int64_t retry_at;
    int retry_ms;
    int failure; /* errno of the last SINK_FAILED */
    int ended_by;
    atomic_int commands;
    struct stream *next_report; /* under the lock, like all that follows */
    int reports;
    relay_event told;
    int told_stall;
    size_t eof_len;
    char eof[];
};

struct relay {
    pthread_mutex_t lock;
    pthread_t thread;
    pid_t owner;
    atomic_bool closing;
    int epoll_fd;
    int wake_fd;   /* Python to thread */
    int report_fd; /* thread to Python */
    int64_t give_up_ms;
    uint64_t last_id;
    struct stream *incoming;
    struct stream *streams;
    struct stream *first_report;
    struct stream **last_report;
    int64_t now;
    int64_t next_due; /* not after the least due of all streams */
    bool burial;      /* a stream has ended since the last bury() */
    char scratch[SCRATCH_SIZE];
};

/* ---- reports: thread to Python ---- */

/* Notes an event for poll(). Bounded: a stream has each kind at most once; a stall that follows an untold recovery
 * cancels it, so that Python sees one long stall. */
static void report(relay *r, struct stream *s, int kind)
{
    pthread_mutex_lock(&r->lock);
    if (kind == RELAY_STALLED && (s->reports & RELAY_RESUMED))
        s->reports &= ~RELAY_RESUMED;
    else
        s->reports |= kind;
    if (kind == RELAY_STALLED)
        s->told_stall = s->failure;
    s->told = (relay_event){ .stream = s->id, .copied = s->copied, .dropped = s->dropped, .error = s->ended_by };
    if (!s->next_report && r->last_report != &s->next_report) {
        if (!r->first_report)
            eventfd_write(r->report_fd, 1);
        *r->last_report = s;
        r->last_report = &s->next_report;
    }
    pthread_mutex_unlock(&r->lock);
}

/* Tells of bytes dropped since this was last told. */
static void report_dropped(relay *r, struct stream *s)
{
    if (s->dropped == s->dropped_told)
        return;
    s->dropped_told = s->dropped;
    report(r, s, RELAY_DROPPED);
}

/* ---- waiting ---- */

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wake_at(relay *r, struct stream *s, int64_t when)
{
    s->due = when;
    if (when < r->next_due)
        r->next_due = when;
}

/* Waits for one fd. What epoll refuses (regular files and /dev/null with EPERM, or no memory) is asked again later. */
static void wait_for(relay *r, struct stream *s, struct side *side, uint32_t events)
{
    struct epoll_event event = { .events = events | EPOLLONESHOT, .data = { .ptr = s } };
    if (epoll_ctl(r->epoll_fd, side->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, side->fd, &event) == 0)
        side->registered = true;
    else
        wake_at(r, s, r->now + RETRY_MIN_MS);
}

/* ---- moving bytes ---- */

static void drop_rest(struct stream *s)
{
    free(s->rest);
    s->rest = NULL;
    s->rest_len = 0;
}

/* Keeps bytes that the sink did not take. Without memory they are lost, and counted. */
static void keep_rest(struct stream *s, const char *bytes, size_t len)
{
    s->rest = malloc(len);
    if (!s->rest) {
        s->dropped += len;
        return;
    }
    memcpy(s->rest, bytes, len);
    s->rest_at = 0;
    s->rest_len = len;
}

static uint64_t readable(const struct stream *s)
{
    int bytes = 0;
    return ioctl(s->source.fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (uint64_t)bytes : 0;
}

/* A FIFO that never had a writer since we opened it reads 0 like one at its end; only the latter has POLLHUP. */
static bool fifo_without_writer_yet(const struct side *source)
{
    struct pollfd p = { .fd = source->fd, .events = POLLIN };
    return source->fifo && (poll(&p, 1, 0) != 1 || (p.revents & (POLLHUP | POLLIN)) != POLLHUP);
}

/* What a read of 0 or -1 from the source means. A tty says EIO (or 0) when its other side is closed; bytes written
 * before that come first. Any other error ends the stream and is told with its end. */
static enum outcome nothing_read(struct stream *s, ssize_t got)
{
    bool hung_up = s->source.tty && (got == 0 || errno == EIO);
    if (hung_up && s->pty && !s->finishing)
        return SOURCE_HUNG_UP;
    if (got < 0 && errno != EAGAIN && !hung_up)
        s->ended_by = errno;
    else if (!s->finishing && !hung_up && (got < 0 || fifo_without_writer_yet(&s->source)))
        return SOURCE_EMPTY;
    return SOURCE_ENDED;
}

static enum outcome nothing_written(struct stream *s, ssize_t put)
{
    if (put == 0 || errno == EAGAIN)
        return SINK_FULL;
    s->failure = errno;
    return SINK_FAILED;
}

static ssize_t read_source(relay *r, struct stream *s)
{
    size_t room = s->left < SCRATCH_SIZE ? (size_t)s->left : SCRATCH_SIZE;
    ssize_t got = read(s->source.fd, r->scratch, room);
    if (got > 0)
        s->left -= (uint64_t)got;
    return got;
}

static enum outcome copy(relay *r, struct stream *s)
{
    ssize_t got = read_source(r, s);
    if (got <= 0)
        return nothing_read(s, got);
    ssize_t put = write(s->sink.fd, r->scratch, (size_t)got);
    enum outcome outcome = put > 0 ? MOVED : nothing_written(s, put);
    if (put < 0)
        put = 0;
    s->copied += (uint64_t)put;
    if (put < got)
        keep_rest(s, r->scratch + put, (size_t)(got - put));
    return outcome;
}

/* Sources here are pipes. EAGAIN does not say which side blocks; FIONREAD does. A wrong guess (the writer wrote in
 * between) costs one wake-up. EINVAL: this sink cannot be spliced to (O_APPEND, some devices). */
static enum outcome splice_step(relay *r, struct stream *s)
{
    size_t most = s->left < TURN_SIZE ? (size_t)s->left : TURN_SIZE;
    ssize_t moved = splice(s->source.fd, NULL, s->sink.fd, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (moved > 0) {
        s->copied += (uint64_t)moved;
        s->left -= (uint64_t)moved;
        return MOVED;
    }
    if (moved < 0 && errno == EINVAL) {
        s->splices = false;
        return copy(r, s);
    }
    if (moved == 0 || (errno == EAGAIN && !readable(s))) {
        errno = EAGAIN;
        return nothing_read(s, moved);
    }
    return nothing_written(s, moved);
}

static enum outcome flush(struct stream *s)
{
    ssize_t put = write(s->sink.fd, s->rest + s->rest_at, s->rest_len);
    if (put <= 0)
        return nothing_written(s, put);
    if (!s->source_ended) /* what follows the end is the caller's eof, no byte of the stream */
        s->copied += (uint64_t)put;
    s->rest_at += (size_t)put;
    s->rest_len -= (size_t)put;
    if (!s->rest_len)
        drop_rest(s);
    return MOVED;
}

/* For a sink that has failed for too long: the writer is not to be held up any longer. */
static enum outcome discard(relay *r, struct stream *s)
{
    if (!s->source_ended)
        s->dropped += s->rest_len;
    drop_rest(s);
    if (s->source_ended)
        return DONE;
    if (!s->left)
        return SOURCE_ENDED;
    ssize_t got = read_source(r, s);
    if (got <= 0)
        return nothing_read(s, got);
    s->dropped += (uint64_t)got;
    return DISCARDED;
}

static enum outcome step(relay *r, struct stream *s)
{
    if (s->discarding && r->now < s->retry_at)
        return discard(r, s);
    if (s->rest_len)
        return flush(s);
    if (s->source_ended)
        return DONE;
    if (!s->left)
        return SOURCE_ENDED;
    return s->splices ? splice_step(r, s) : copy(r, s);
}

/* ---- a stream's life ---- */

/* The sink failed: tell once, keep the bytes and try again, later and later; after give_up discard meanwhile. */
static void stall(relay *r, struct stream *s)
{
    if (!s->stalled) {
        s->stalled = true;
        s->stalled_at = r->now;
        s->retry_ms = RETRY_MIN_MS;
        report(r, s, RELAY_STALLED);
    }
    s->discarding = r->now - s->stalled_at >= r->give_up_ms;
    s->retry_at = r->now + s->retry_ms;
    s->retry_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
    if (!s->discarding)
        wake_at(r, s, s->retry_at);
}

static void resume(relay *r, struct stream *s)
{
    if (!s->stalled)
        return;
    s->stalled = false;
    s->discarding = false;
    report_dropped(r, s);
    report(r, s, RELAY_RESUMED);
}

/* Small streams leave the pipes as they are: unprivileged users have a budget of pipe pages
 * (/proc/sys/fs/pipe-user-pages-soft). Refusals (EPERM, EBUSY) do not matter. */
static void grow_pipes(struct stream *s)
{
    struct side *sides[] = { &s->source, &s->sink };
    for (int i = 0; i < 2; i++)
        if (sides[i]->fifo && fcntl(sides[i]->fd, F_GETPIPE_SZ) < PIPE_SIZE)
            fcntl(sides[i]->fd, F_SETPIPE_SZ, PIPE_SIZE);
    s->grown = true;
}

/* Without EPOLL_CTL_DEL the registration, and the pointer in it, would outlive our fd while somebody else holds a
 * duplicate of it: epoll keys on the open file description. */
static int close_side(relay *r, struct side *side)
{
    if (side->registered)
        epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, side->fd, NULL);
    return close(side->fd);
}

/* Closes both fds; bury() tells Python. The source goes first: once the reader sees the end, no write of anybody
 * who still holds the pipe can seem to succeed and be lost. Closing a file may be where its error shows (NFS). */
static void end(relay *r, struct stream *s)
{
    drop_rest(s);
    close_side(r, &s->source);
    if (close_side(r, &s->sink) < 0 && !s->ended_by)
        s->ended_by = errno;
    s->ended = true;
    r->burial = true;
}

static void source_ended(struct stream *s)
{
    s->source_ended = true;
    if (s->eof_len)
        keep_rest(s, s->eof, s->eof_len);
}

/* Moves bytes until the stream has to wait, then arms that wait. */
static void pump(relay *r, struct stream *s)
{
    uint64_t start = s->copied + s->dropped;
    s->due = NEVER;
    for (;;) {
        enum outcome outcome = step(r, s);
        if (outcome == MOVED || outcome == SINK_FULL)
            resume(r, s);
        if (outcome != SOURCE_HUNG_UP)
            s->repoll_ms = RETRY_MIN_MS / 2;
        switch (outcome) {
        case MOVED:
        case DISCARDED:
            if (!s->grown && s->copied >= PIPE_SIZE)
                grow_pipes(s);
            if (s->copied + s->dropped - start < TURN_SIZE)
                continue;
            wake_at(r, s, r->now);
            return;
        case SOURCE_EMPTY:
            wait_for(r, s, &s->source, EPOLLIN);
            return;
        case SOURCE_HUNG_UP: /* EPOLLHUP stays set until a slave is opened: only time helps */
            wake_at(r, s, r->now + s->repoll_ms);
            s->repoll_ms = s->repoll_ms * 2 < RETRY_MAX_MS ? s->repoll_ms * 2 : RETRY_MAX_MS;
            return;
        case SOURCE_ENDED:
            source_ended(s);
            continue;
        case SINK_FULL:
            wait_for(r, s, &s->sink, EPOLLOUT);
            return;
        case SINK_FAILED:
            stall(r, s);
            if (s->discarding)
                continue;
            return;
        case DONE:
            end(r, s);
            return;
        }
    }
}

/* Does what Python asked for since the last time. */
static void obey(relay *r, struct stream *s)
{
    int commands = atomic_exchange(&s->commands, 0);
    if (!commands || s->ended)
        return;
    if (commands & CANCEL) {
        s->dropped += s->source_ended ? 0 : s->rest_len + readable(s);
        end(r, s);
        return;
    }
    if ((commands & FINISH) && !s->finishing) {
        s->finishing = true;
        s->left = s->source.tty ? TTY_FINISH_SIZE : readable(s);
    }
    pump(r, s);
}

/* Takes new streams over and runs all commands. */
static void obey_all(relay *r)
{
    eventfd_t ignored;
    eventfd_read(r->wake_fd, &ignored);
    pthread_mutex_lock(&r->lock);
    while (r->incoming) {
        struct stream *s = r->incoming;
        r->incoming = s->next;
        s->next = r->streams;
        r->streams = s;
    }
    pthread_mutex_unlock(&r->lock);
    for (struct stream *s = r->streams; s; s = s->next)
        obey(r, s);
}

static void pump_due(relay *r)
{
    if (r->now < r->next_due)
        return;
    r->next_due = NEVER;
    for (struct stream *s = r->streams; s; s = s->next) {
        if (s->ended || s->due == NEVER)
            continue;
        if (s->due <= r->now)
            pump(r, s);
        else
            wake_at(r, s, s->due);
    }
}

/* Hands ended streams to poll(), which frees them. Only here, when no epoll event of this round can name them. */
static void bury(relay *r)
{
    if (!r->burial)
        return;
    r->burial = false;
    for (struct stream **link = &r->streams, *s; (s = *link);) {
        if (!s->ended) {
            link = &s->next;
            continue;
        }
        pthread_mutex_lock(&r->lock);
        *link = s->next;
        pthread_mutex_unlock(&r->lock);
        report_dropped(r, s);
        report(r, s, RELAY_END); /* the last touch: poll() may free it at once */
    }
}

static int wait_ms(const relay *r)
{
    if (r->next_due == NEVER)
        return -1;
    int64_t ms = r->next_due - r->now;
    return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* The thread. All signals are blocked in it: SIGPIPE becomes EPIPE, SIGXFSZ becomes EFBIG. */
static void *run(void *argument)
{
    relay *r = argument;
    struct epoll_event events[BATCH];
    prctl(PR_SET_NAME, "ocishim-relay", 0, 0, 0);
    while (!r->closing) {
        r->now = clock_ms();
        int count = epoll_wait(r->epoll_fd, events, BATCH, wait_ms(r));
        r->now = clock_ms();
        bool woken = false;
        for (int i = 0; i < count; i++) {
            struct stream *s = events[i].data.ptr;
            if (!s)
                woken = true;
            else if (!s->ended)
                pump(r, s);
        }
        if (woken)
            obey_all(r);
        pump_due(r);
        bury(r);
    }
    return NULL;
}

/* ---- called by Python ---- */

static void free_relay(relay *r)
{
    int fds[] = { r->epoll_fd, r->wake_fd, r->report_fd };
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Starts the thread with all signals blocked and a stack of its own size. Returns an errno. */
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
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* Python gets a running relay, or a negative errno. */
int relay_new(int64_t give_up_ms, relay **result)
{
    int error;
    relay *r = malloc(sizeof(*r));
    if (!r)
        return -ENOMEM;
    memset(r, 0, offsetof(relay, scratch)); /* the scratch pages stay untouched until a stream needs them */
    pthread_mutex_init(&r->lock, NULL);
    r->owner = getpid();
    r->give_up_ms = give_up_ms < 0 ? NEVER : give_up_ms;
    r->last_report = &r->first_report;
    r->next_due = NEVER;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->report_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN };
    if (r->epoll_fd < 0 || r->wake_fd < 0 || r->report_fd < 0
        || epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event) < 0) {
        error = errno;
        goto error;
    }
    error = start_thread(r);
    if (error)
        goto error;
    *result = r;
    return 0;
error:
    free_relay(r);
    return -error;
}

/* The eventfd that is readable while poll() has something. */
int relay_fileno(const relay *r)
{
    return r->report_fd;
}

/* Learns what an fd is and makes it non-blocking. A wrong direction is refused here rather than told as a stall. */
static int prepare_side(struct side *side, int fd, int wrong_mode)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    if ((flags & O_ACCMODE) == wrong_mode || (flags & O_PATH))
        return -EBADF;
    side->fd = fd;
    side->fifo = S_ISFIFO(st.st_mode);
    side->tty = S_ISCHR(st.st_mode) && isatty(fd);
    return 0;
}

/* Python gets the id of the new stream, or a negative errno; both fds are the relay's in any case. */
int64_t relay_add(relay *r, int source_fd, int sink_fd, const char *eof, size_t eof_len, int pty)
{
    int error = -ENOMEM;
    struct stream *s = calloc(1, sizeof(*s) + eof_len);
    if (!s || (error = prepare_side(&s->source, source_fd, O_WRONLY)) < 0
        || (error = prepare_side(&s->sink, sink_fd, O_RDONLY)) < 0)
        goto error;
    s->pty = pty;
    s->splices = s->source.fifo && !s->sink.tty;
    s->left = UINT64_MAX;
    s->due = NEVER;
    s->commands = START;
    s->eof_len = eof_len;
    memcpy(s->eof, eof, eof_len);
    pthread_mutex_lock(&r->lock);
    uint64_t id = s->id = ++r->last_id;
    s->next = r->incoming;
    r->incoming = s;
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->wake_fd, 1);
    return (int64_t)id;
error:
    free(s);
    close(source_fd);
    close(sink_fd);
    return error;
}

/* The live stream of this id, or NULL; the lock is held. */
static struct stream *find(const relay *r, uint64_t id)
{
    const struct stream *const lists[] = { r->incoming, r->streams };
    for (int i = 0; i < 2; i++)
        for (const struct stream *s = lists[i]; s; s = s->next)
            if (s->id == id)
                return (struct stream *)s;
    return NULL;
}

/* A stream that has ended already needs no command. */
static void command(relay *r, uint64_t id, int what)
{
    pthread_mutex_lock(&r->lock);
    struct stream *s = find(r, id);
    if (s)
        atomic_fetch_or(&s->commands, what);
    pthread_mutex_unlock(&r->lock);
    eventfd_write(r->wake_fd, 1);
}

void relay_finish(relay *r, uint64_t stream)
{
    command(r, stream, FINISH);
}

void relay_cancel(relay *r, uint64_t stream)
{
    command(r, stream, CANCEL);
}

/* Bytes taken from the source and not yet written. */
int64_t relay_pending(relay *r, uint64_t stream)
{
    pthread_mutex_lock(&r->lock);
    const struct stream *s = find(r, stream);
    int64_t bytes = s ? (int64_t)s->rest_len : 0;
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

/* Writes the events of one stream, in the order in which they make sense; returns how many. */
static size_t take_reports(struct stream *s, relay_event *events)
{
    size_t count = 0;
    for (int kind = RELAY_STALLED; kind <= RELAY_END; kind <<= 1) {
        if (!(s->reports & kind))
            continue;
        events[count] = s->told;
        events[count].kind = kind;
        if (kind != RELAY_END)
            events[count].error = kind == RELAY_RESUMED ? 0 : s->told_stall;
        count++;
    }
    s->reports = 0;
    return count;
}

/* Python gets the number of events; fewer than room - 3 means that there are no more. Room is at least 4. */
size_t relay_poll(relay *r, relay_event *events, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&r->lock);
    while (r->first_report && count + 4 <= room) {
        struct stream *s = r->first_report;
        bool last = s->reports & RELAY_END;
        r->first_report = s->next_report;
        if (r->last_report == &s->next_report)
            r->last_report = &r->first_report;
        s->next_report = NULL;
        count += take_reports(s, events + count);
        if (last)
            free(s);
    }
    eventfd_t ignored;
    if (!r->first_report)
        eventfd_read(r->report_fd, &ignored);
    pthread_mutex_unlock(&r->lock);
    return count;
}

static void free_streams(relay *r, struct stream *s)
{
    while (s) {
        struct stream *next = s->next;
        close_side(r, &s->source);
        close_side(r, &s->sink);
        drop_rest(s);
        free(s);
        s = next;
    }
}

/* Joins the thread, closes every fd. In a fork of the process that made the relay there is no thread to join and
 * nothing is done. */
void relay_close(relay *r)
{
    if (r->owner != getpid())
        return;
    r->closing = true;
    eventfd_write(r->wake_fd, 1);
    pthread_join(r->thread, NULL);
    while (r->first_report) {
        struct stream *s = r->first_report;
        r->first_report = s->next_report;
        if (s->ended)
            free(s);
    }
    free_streams(r, r->incoming);
    free_streams(r, r->streams);
    free_relay(r);
}
