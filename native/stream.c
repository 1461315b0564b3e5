/* Moves the bytes of one stream; knows no epoll, thread or clock. Nothing here ever waits, except for the disk of a
 * regular file.
 *
 * A pipe goes to anything by splice(2), without a copy; the rest goes through a scratch buffer that all streams
 * share. A stream owns memory for bytes only after a short write, and at most SCRATCH_SIZE.
 *
 * Man pages: splice(2), pipe(7), fifo(7), pty(7), F_SETPIPE_SZ(2const), FIONREAD(2const). */

#include "stream.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define TTY_READ_MIN 2048 /* a read of a tty gives at most 4 KiB: after one that is large there is more to come */
#define TTY_FINISH_SIZE (128 * 1024) /* more than a tty can hold (64 KiB of flip buffers, 4 KiB of line) */

/* Learns what an fd is and makes it non-blocking. A wrong direction is refused here, not told as a failing sink. */
static int prepare(struct side *side, int fd, int wrong_mode)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0)
        return -errno;
    if ((flags & O_ACCMODE) == wrong_mode || (flags & O_PATH))
        return -EBADF;
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    side->fd = fd;
    side->fifo = S_ISFIFO(st.st_mode);
    side->tty = S_ISCHR(st.st_mode) && isatty(fd);
    return 0;
}

/* A stream that owns both fds, or a negative errno with both closed. */
int stream_new(struct stream **result, int source_fd, int sink_fd, const char *eof, size_t eof_len, bool pty)
{
    int error = -ENOMEM;
    struct stream *s = calloc(1, sizeof(*s) + eof_len);
    if (s)
        error = source_fd == sink_fd ? -EINVAL : prepare(&s->source, source_fd, O_WRONLY);
    if (!error)
        error = prepare(&s->sink, sink_fd, O_RDONLY);
    if (error) {
        free(s);
        close(source_fd);
        if (source_fd != sink_fd)
            close(sink_fd);
        return error;
    }
    s->pty = pty;
    s->splices = s->source.fifo && !s->sink.tty;
    s->left = UINT64_MAX;
    s->eof_len = eof_len;
    memcpy(s->eof, eof, eof_len);
    *result = s;
    return 0;
}

/* Closes both fds. The source goes first: once the reader sees the end, nobody who still holds the pipe can write a
 * byte that seems delivered. The close of a file may be where its error shows (NFS). */
void stream_close(struct stream *s)
{
    close(s->source.fd);
    if (close(s->sink.fd) < 0 && !s->ended_by)
        s->ended_by = errno;
    free(s->rest);
    s->rest = NULL;
}

static uint64_t readable(const struct stream *s)
{
    int bytes = 0;
    return ioctl(s->source.fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (uint64_t)bytes : 0;
}

/* From now on the source is at its end after what it holds at this moment. */
void stream_finish(struct stream *s)
{
    if (s->finishing)
        return;
    s->finishing = true;
    s->left = s->source.tty ? TTY_FINISH_SIZE : readable(s);
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

/* After the end of the source the rest is the caller's eof, no bytes of the stream, and not counted. */
static void shorten_rest(struct stream *s, size_t len, _Atomic uint64_t *counter)
{
    if (!s->source_ended)
        *counter += len;
    s->rest_at += len;
    s->rest_len -= len;
    if (s->rest_len)
        return;
    free(s->rest);
    s->rest = NULL;
}

/* Counts everything that was not written as dropped, in the source, too. */
void stream_drop(struct stream *s)
{
    shorten_rest(s, s->rest_len, &s->dropped);
    if (!s->source_ended)
        s->dropped += readable(s);
}

/* A FIFO that never had a writer since we opened it reads 0 like one at its end; only the latter has POLLHUP. */
static bool is_at_end(const struct side *source)
{
    struct pollfd p = { .fd = source->fd, .events = POLLIN };
    return !source->fifo || (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLIN)) == POLLHUP);
}

static enum outcome source_ended(struct stream *s)
{
    s->source_ended = true;
    if (s->eof_len)
        keep_rest(s, s->eof, s->eof_len);
    return SOURCE_ENDED;
}

/* What a read of 0 or -1 means. A tty has EIO (or 0) when its other side is closed, after all that was written
 * there; that is no end for a pty before finish(). Any other error ends the stream and is told with its end. */
static enum outcome nothing_read(struct stream *s, ssize_t got)
{
    int error = errno;
    if (s->source.tty && (got == 0 || error == EIO))
        return s->pty && !s->finishing ? SOURCE_HUNG_UP : source_ended(s);
    if (got < 0 && error != EAGAIN)
        s->ended_by = error;
    else if (!s->finishing && (got < 0 || !is_at_end(&s->source)))
        return SOURCE_EMPTY;
    return source_ended(s);
}

static enum outcome nothing_written(struct stream *s, ssize_t put)
{
    if (put == 0 || errno == EAGAIN)
        return SINK_FULL;
    s->failed_by = errno;
    return SINK_FAILED;
}

static ssize_t read_source(struct stream *s, char *scratch)
{
    size_t most = s->left < SCRATCH_SIZE ? (size_t)s->left : SCRATCH_SIZE;
    size_t got = 0;
    ssize_t more;
    do {
        more = read(s->source.fd, scratch + got, most - got);
        got += more > 0 ? (size_t)more : 0;
    } while (s->source.tty && more >= TTY_READ_MIN && got < most);
    s->left -= got;
    return got ? (ssize_t)got : more;
}

static enum outcome copy(struct stream *s, char *scratch)
{
    ssize_t got = read_source(s, scratch);
    if (got <= 0)
        return nothing_read(s, got);
    ssize_t put = write(s->sink.fd, scratch, (size_t)got);
    enum outcome outcome = put > 0 ? MOVED : nothing_written(s, put);
    if (put < 0)
        put = 0;
    s->copied += (uint64_t)put;
    if (put < got)
        keep_rest(s, scratch + put, (size_t)(got - put));
    return outcome;
}

/* The source is a pipe. A page that splice moves takes one of the sink's slots (16, unless grown), full or not: a
 * FIFO with room for 64 KiB would be full after sixteen short lines, which write(2) packs. An error does not say
 * which side it is about, FIONREAD does: with nothing to move it is the source, even if the sink is broken (EPIPE
 * comes first). When the writer was in between, the wrong guess costs one wake-up. EINVAL: this sink has no splice
 * (O_APPEND, some devices). */
static enum outcome splice_or_copy(struct stream *s, char *scratch)
{
    if (s->sink.fifo && readable(s) < SPLICE_MIN)
        return copy(s, scratch);
    size_t most = s->left < TURN_SIZE ? (size_t)s->left : TURN_SIZE;
    ssize_t moved = splice(s->source.fd, NULL, s->sink.fd, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    int error = moved < 0 ? errno : 0;
    if (moved > 0) {
        s->copied += (uint64_t)moved;
        s->left -= (uint64_t)moved;
        return MOVED;
    }
    if (error == EINVAL) {
        s->splices = false;
        return copy(s, scratch);
    }
    bool source_blocks = !error || !readable(s);
    errno = error;
    if (source_blocks) /* 0 even for EAGAIN, which comes first when the sink is full and the source at its end */
        return nothing_read(s, 0);
    return nothing_written(s, -1);
}

static enum outcome write_rest(struct stream *s)
{
    ssize_t put = write(s->sink.fd, s->rest + s->rest_at, s->rest_len);
    if (put <= 0)
        return nothing_written(s, put);
    shorten_rest(s, (size_t)put, &s->copied);
    return MOVED;
}

static enum outcome discard(struct stream *s, char *scratch)
{
    ssize_t got = read_source(s, scratch);
    if (got <= 0)
        return nothing_read(s, got);
    s->dropped += (uint64_t)got;
    return DISCARDED;
}

/* Moves some bytes; or with `discarding` throws some away, for a writer that a failing sink must not hold up. */
enum outcome stream_step(struct stream *s, char *scratch, bool discarding)
{
    if (s->rest && !discarding)
        return write_rest(s);
    if (s->rest)
        shorten_rest(s, s->rest_len, &s->dropped);
    if (s->source_ended)
        return DONE;
    if (!s->left)
        return source_ended(s);
    if (discarding)
        return discard(s, scratch);
    return s->splices ? splice_or_copy(s, scratch) : copy(s, scratch);
}
