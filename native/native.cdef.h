/* What Python sees of the extension. cffi parses this file and native.h includes it, so the two cannot differ;
 * hence plain declarations only, no preprocessor. Failures are returned as negative errno values. */

typedef struct {
    const char *argv; /* argc strings, one after the other, each with its NUL */
    size_t argc;
    const char *env;
    size_t envc;
    const int *fds; /* fds[i] becomes descriptor i of the child */
    size_t nfds;
    const char *cwd;     /* or NULL */
    int cgroup_procs_fd; /* or -1 */
    int pdeathsig;       /* or 0 */
    int setsid;
    int64_t open_files; /* the soft RLIMIT_NOFILE of the child, or -1 */
} spawn_request;

typedef struct {
    int pid;
    int pidfd;
    const char *failed; /* the system call that failed, or "cgroup.procs"; NULL when none did */
} spawn_result;

int ocishim_spawn(const spawn_request *request, spawn_result *result);

typedef struct relay relay;

enum { RELAY_FINISH = 1, RELAY_CANCEL = 2 };
enum { RELAY_STALLED = 1, RELAY_DROPPED = 2, RELAY_RESUMED = 4, RELAY_END = 8 };

typedef struct {
    uint64_t stream;
    uint64_t copied;
    uint64_t dropped;
    int kind;
    int error;
} relay_event;

int relay_new(int64_t give_up_ms, relay **result);
int relay_fileno(const relay *r);
int64_t relay_busy_ms(const relay *r);
int64_t relay_add(relay *r, int source_fd, int sink_fd, const char *eof, size_t eof_len, int pty);
void relay_command(relay *r, uint64_t stream, int command);
uint64_t relay_pending(relay *r, uint64_t stream);
size_t relay_poll(relay *r, relay_event *events, size_t room);
void relay_close(relay *r);
