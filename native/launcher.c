/* The program that containerd executes for each container: has a fork of the template, a process with a warm interpreter, do
 * what the command line says, and exits as that does.
 *
 * Arguments, environment and, by SCM_RIGHTS, working directory and standard streams go to a fork of it in one message. A
 * byte comes back when the request is taken, another with the exit status. Until it is taken nothing has been done, and on
 * any trouble the interpreter does it instead: slower, with the same result. Afterwards it is never done again.
 * When nobody listens a template is started for the next time. Its address is a hash of what must be the same for all
 * whom it serves: mount namespace, this very installation, the variables that Python and the loader read at their start.
 *
 * OCISHIM_TEMPLATE: "off" never asks a template, "only" never an interpreter (status 75). OCISHIM_TEMPLATE_DIR: where they are.
 *
 * Man pages: unix(7), cmsg(3), execve(2), proc_pid_exe(5), namespaces(7). */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ME "containerd-shim-ocishim-v2"
#define INTERPRETER "ocishim-containerd"
#define TAKEN 'T'
/* A template that is busy is worth waiting for: many interpreters at once would only make it busier. */
#ifndef PATIENCE_S
#define PATIENCE_S 10
#endif

static const struct timeval patience = { .tv_sec = PATIENCE_S }, forever;
static char program[PATH_MAX + sizeof(INTERPRETER)]; /* the interpreter's */
static struct sockaddr_un address = { .sun_family = AF_UNIX };

/* Beside this one; if that was copied, as clients of containerd do, on PATH. */
static void find_program(void)
{
    if (readlink("/proc/self/exe", program, PATH_MAX - 1) > 0)
        strcpy(strrchr(program, '/') + 1, INTERPRETER);
    if (access(program, X_OK) < 0)
        strcpy(program, INTERPRETER);
}

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
    long same[] = { (long)namespace.st_ino, (long)self.st_dev, (long)self.st_ino, self.st_ctim.tv_sec, self.st_ctim.tv_nsec };
    *hash = mix(0xcbf29ce484222325, same, sizeof(same));
    for (char **variable = environ; *variable; variable++)
        if (!strncmp(*variable, "PYTHON", 6) || !strncmp(*variable, "LD_", 3))
            *hash = mix(*hash, *variable, strlen(*variable) + 1);
    return 0;
}

/* Returns -1 where there can be none. */
static int find_address(void)
{
    uint64_t hash;
    char standard[PATH_MAX];
    const char *base = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run", *place = getenv("OCISHIM_TEMPLATE_DIR");
    if (base && *base)
        snprintf(standard, sizeof(standard), "%s/ocishim/template", base);
    else
        snprintf(standard, sizeof(standard), "/run/user/%u/ocishim/template", geteuid());
    if (geteuid() != getuid() || hash_of_surroundings(&hash) < 0)
        return -1;
    size_t room = sizeof(address.sun_path);
    int size = snprintf(address.sun_path, room, "%s/%016llx", place ? place : standard, (unsigned long long)hash);
    return (size_t)size < room ? 0 : -1;
}

/* A connection that a fork of a template of our own uid has accepted, which it says by a byte; -1 with errno. Descriptors on
 * their way to somebody who hangs would stay open. Below 3 it would be the caller's who has closed its streams. */
static int dial(void)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* for connect(2), too */
    if (fd < 3 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    int ours = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.uid == geteuid();
    errno = EPERM;
    return ours && recv(fd, &size, 1, 0) == 1 ? fd : -1;
}

/* The request: size of the strings, number of arguments, then arguments and environment, each with its NUL. As execve(2)
 * lays them out they follow each other in memory. */
static int send_request(int fd, int argc, char **argv)
{
    char *end = argv[argc - 1];
    for (char **variable = environ; *variable; variable++)
        end = *variable;
    end += strlen(end) + 1;
    uint32_t head[2] = { (uint32_t)(end - argv[0]), (uint32_t)argc };
    struct iovec parts[2] = { { head, sizeof(head) }, { argv[0], (size_t)(end - argv[0]) } };
    int fds[4] = { open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), 0, 1, 2 };
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(fds))];
    } control = { .header = { .cmsg_len = CMSG_LEN(sizeof(fds)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)(sizeof(head) + head[0]) ? 0 : -1;
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
        dprintf(2, ME ": %.*s\n", (int)size + 1, words);
    return 0;
}

/* The exit status of whoever took the request; it may take as long as it likes. */
static int status_of(int fd)
{
    unsigned char status;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    if (recv(fd, &status, 1, 0) == 1)
        return status;
    dprintf(2, ME ": the process that has taken the request ended without an answer\n");
    return 1;
}

/* It holds nothing of ours, and is not our child, so that nobody has to wait for it. */
static void start_template(void)
{
    pid_t pid = fork();
    if (pid > 0)
        waitpid(pid, NULL, 0);
    if (pid)
        return;
    int null = open("/dev/null", O_RDWR);
    if (fork() || chdir("/") < 0)
        _exit(0);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    setenv("LC_ALL", "C.UTF-8", 1);
    execlp(program, program, "template", address.sun_path, NULL);
    _exit(127);
}

int main(int argc, char **argv)
{
    const char *how = getenv("OCISHIM_TEMPLATE");
    int only = how && !strcmp(how, "only");
    find_program();
    if (argc && !(how && !strcmp(how, "off")) && find_address() == 0) {
        int fd = dial();
        if (fd >= 0 && send_request(fd, argc, argv) == 0 && is_taken(fd, only))
            return status_of(fd);
        if (fd < 0 && (errno == ENOENT || errno == ECONNREFUSED))
            start_template();
    }
    if (only)
        return 75; /* EX_TEMPFAIL of sysexits.h */
    execvp(program, argv);
    dprintf(2, ME ": " INTERPRETER " cannot be executed: %s\n", strerror(errno));
    return 127;
}
