/* One stream: two fds, what was read and not yet written, and how it stands. See stream.c and relay.c. */

#ifndef OCISHIM_STREAM_H
#define OCISHIM_STREAM_H

#include "native.h"

#include <stdatomic.h>

#define SCRATCH_SIZE (64 * 1024)
#define SPLICE_MIN (16 * 1024)  /* less than this is packed into a pipe by write(2) */
#define TURN_SIZE (1024 * 1024) /* bytes before the other streams get their turn */

/* What a step came to: it moved bytes, or it threw them away, or there is something to wait for, or an end. */
enum outcome { MOVED, DISCARDED, SOURCE_EMPTY, SOURCE_HUNG_UP, SOURCE_ENDED, SINK_FULL, SINK_FAILED, DONE };

struct side {
    int fd;
    bool fifo; /* or a pipe */
    bool tty;
    bool registered; /* with the relay's epoll */
};

struct stream {
    /* stream.c */
    struct side source;
    struct side sink;
    bool pty;
    bool splices;
    bool finishing;
    bool source_ended;
    uint64_t left; /* bytes that may still be taken from the source */
    char *rest;    /* taken and not yet written: rest_len bytes from rest_at on; NULL when none */
    size_t rest_at;
    _Atomic size_t rest_len; /* atomic is what Python reads while the thread works */
    _Atomic uint64_t copied;
    _Atomic uint64_t dropped;
    atomic_int failed_by; /* errno of the sink's last failure */
    atomic_int ended_by;  /* errno of the source, 0 at its regular end */

    /* relay.c */
    struct stream *_Atomic next;
    uint64_t id;
    atomic_int commands;
    bool ended;
    bool busy; /* between looked_at and the look before */
    int64_t looked_at;
    uint64_t copied_then;
    int room; /* of the source: 0 before the stream was busy, -1 when it is no large pipe */
    int64_t due;     /* when to pump without an event */
    int64_t failing; /* since when the sink fails, or NEVER */
    int64_t retry_at;
    int reports; /* kinds of events for poll() */
    uint64_t dropped_told;

    size_t eof_len;
    char eof[];
};

int stream_new(struct stream **result, int source_fd, int sink_fd, const char *eof, size_t eof_len, bool pty);
enum outcome stream_step(struct stream *s, char *scratch, bool discarding);
void stream_finish(struct stream *s);
void stream_drop(struct stream *s);
void stream_close(struct stream *s);

#endif
