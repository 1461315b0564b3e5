/* The program that containerd executes for each container: has a process with a warm interpreter, the template's fork, do
 * what the command line says, and exits as that does.
 *
 * Arguments, environment and, by SCM_RIGHTS, working directory and standard streams go to the template in one message. A
 * byte comes back when the request is taken, another with the exit status. Until it is taken nothing has been done, and on
 * any trouble the interpreter does it instead: slower, with the same result. Afterwards it is never done again.
 *
 * When nobody listens a template is started for the next time. Its address is a hash of what must be the same for all
 * whom it serves: mount namespace, this very installation, the variables that Python reads at its start.
 *
 * OCISHIM_TEMPLATE: "off" never asks a template, "only" never an interpreter (status 75), "/..." is where templates listen.
 *
 * Static, so that its own start costs as little as can be.
 *
 * Man pages: unix(7), cmsg(3), proc_pid_exe(5), namespaces(7). */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAKEN 'T'
#define TAKEN_WITHIN_S 3
#define NOT_AVAILABLE 75 /* EX_TEMPFAIL of sysexits.h */
#define NFDS 4

extern char **environ;

static char program[PATH_MAX]; /* the interpreter's, beside this one */
static struct sockaddr_un address = { .sun_family = AF_UNIX };

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    for (const unsigned char *byte = data; size--; byte++)
        hash = (hash ^ *byte) * 0x100000001b3; /* FNV-1a: no secret, only unlikely to be met twice */
    return hash;
}

/* Namespaces that the template checks itself are not in it: whoever differs there uses the interpreter. */
static int hash_of_surroundings(uint64_t *hash)
{
    struct stat namespace, self;
    if (stat("/proc/self/ns/mnt", &namespace) < 0 || stat("/proc/self/exe", &self) < 0)
        return -1;
    *hash = mix(0xcbf29ce484222325, &namespace.st_ino, sizeof(namespace.st_ino));
    *hash = mix(*hash, &self.st_dev, sizeof(self.st_dev));
    *hash = mix(*hash, &self.st_ino, sizeof(self.st_ino));
    *hash = mix(*hash, &self.st_ctim, sizeof(self.st_ctim));
    for (char **variable = environ; *variable; variable++)
        if (!strncmp(*variable, "PYTHON", 6) || !strncmp(*variable, "LD_", 3))
            *hash = mix(*hash, *variable, strlen(*variable) + 1);
    return 0;
}

/* The directory is made when a template is started. Returns -1 where there can be none. */
static int find_address(const char *how)
{
    char *path = address.sun_path;
    uint64_t hash;
    int size;
    if (geteuid() != getuid() || hash_of_surroundings(&hash) < 0)
        return -1;
    const char *base = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
    if (how && *how == '/')
        size = snprintf(path, sizeof(address.sun_path), "%s", how);
    else if (base && *base)
        size = snprintf(path, sizeof(address.sun_path), "%s/ocishim/template", base);
    else
        size = snprintf(path, sizeof(address.sun_path), "/run/user/%d/ocishim/template", (int)geteuid());
    if (size + 18 > (int)sizeof(address.sun_path))
        return -1;
    sprintf(path + size, "/%016llx", (unsigned long long)hash);
    return 0;
}

static int find_program(void)
{
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program));
    if (size <= 0 || size == sizeof(program))
        return -1;
    program[size] = 0;
    char *name = strrchr(program, '/') + 1;
    if (name - program + sizeof("ocishim-containerd") > sizeof(program))
        return -1;
    strcpy(name, "ocishim-containerd");
    return 0;
}

/* A connection to a template of our own uid; -1 with errno. */
static int dial(void)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    struct timeval within = { .tv_sec = TAKEN_WITHIN_S };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &within, sizeof(within));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &within, sizeof(within));
    if (!connect(fd, (struct sockaddr *)&address, sizeof(address)) &&
        !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
        if (peer.uid == geteuid())
            return fd;
        errno = EPERM;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* How many strings there are, and how many bytes they have, NULs included. */
static uint32_t measure(char **strings, uint32_t *bytes)
{
    uint32_t count = 0;
    for (; strings[count]; count++)
        *bytes += strlen(strings[count]) + 1;
    return count;
}

static char *append(char *to, char **strings)
{
    for (; *strings; strings++)
        to = stpcpy(to, *strings) + 1;
    return to;
}

/* The request: size of what follows, number of arguments, then arguments and environment, each string with its NUL. */
static int send_request(int fd, char **argv)
{
    uint32_t bytes = 0;
    uint32_t argc = measure(argv, &bytes);
    measure(environ, &bytes);
    char *message = malloc(8 + bytes);
    if (!message)
        return -1;
    memcpy(message, &bytes, 4);
    memcpy(message + 4, &argc, 4);
    append(append(message + 8, argv), environ);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(NFDS * sizeof(int))];
    } control = { .header = { CMSG_LEN(NFDS * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
    int fds[NFDS] = { open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), 0, 1, 2 };
    memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
    struct iovec part = { message, 8 + bytes };
    struct msghdr first = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                            .msg_controllen = sizeof(control) };
    ssize_t sent = sendmsg(fd, &first, MSG_NOSIGNAL);
    while (sent > 0 && (size_t)sent < part.iov_len) {
        part.iov_base = (char *)part.iov_base + sent;
        part.iov_len -= sent;
        sent = send(fd, part.iov_base, part.iov_len, MSG_NOSIGNAL);
    }
    return sent > 0 ? 0 : -1;
}

/* Whether the request was taken; if not, says why if that is the end of it. After a shutdown nothing can be sent to us any
 * more, so what was not sent until then never will be: a template that comes too late sees that, and leaves the request. */
static int is_taken(int fd, int last)
{
    char words[512];
    ssize_t size = recv(fd, words, 1, 0);
    if (size < 0) {
        shutdown(fd, SHUT_RD);
        size = recv(fd, words, 1, MSG_DONTWAIT);
    }
    if (size == 1 && words[0] == TAKEN)
        return 1;
    if (size == 1 && last && (size = recv(fd, words + 1, sizeof(words) - 1, 0)) >= 0)
        fprintf(stderr, "containerd-shim-ocishim-v2: %.*s\n", (int)size + 1, words);
    return 0;
}

/* The exit status of whoever took the request; it may take as long as it likes. */
static int status_of(int fd)
{
    struct timeval forever = { 0 };
    unsigned char status;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    if (recv(fd, &status, 1, 0) == 1)
        return status;
    fprintf(stderr, "containerd-shim-ocishim-v2: the process that took the request over has ended without an answer\n");
    return 1;
}

/* In a session of its own, holding nothing of ours. */
static void exec_template(void)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    char *slash = strrchr(address.sun_path, '/');
    *slash = 0;
    mkdir(address.sun_path, 0700);
    *slash = '/';
    setsid();
    umask(077);
    if (fork() || chdir("/") < 0 || null < 0)
        _exit(0);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setenv("LC_ALL", "C.UTF-8", 1);
    execl(program, program, "template", address.sun_path, NULL);
    _exit(127);
}

static void start_template(void)
{
    pid_t pid = fork();
    if (!pid)
        exec_template();
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int main(int argc, char **argv)
{
    const char *how = argc ? getenv("OCISHIM_TEMPLATE") : "off";
    int only = how && !strcmp(how, "only");
    if (find_program() < 0) {
        fprintf(stderr, "containerd-shim-ocishim-v2: cannot find ocishim-containerd: %s\n", strerror(errno));
        return 1;
    }
    if (!(how && !strcmp(how, "off")) && find_address(how) == 0) {
        int fd = dial();
        if (fd >= 0 && send_request(fd, argv) == 0 && is_taken(fd, only))
            return status_of(fd);
        if (fd < 0 && (errno == ENOENT || errno == ECONNREFUSED))
            start_template();
    }
    if (only)
        return NOT_AVAILABLE;
    execv(program, argv);
    fprintf(stderr, "containerd-shim-ocishim-v2: %s: %s\n", program, strerror(errno));
    return 127;
}
