/* Starts a program: clone(2) with CLONE_VM | CLONE_VFORK, a few system calls in the child, execve(2).
 *
 * The child borrows the parent's memory until it execs, so starting costs the same whatever the size of the
 * interpreter, and a failure comes back through that memory instead of through a pipe. The price is that the child
 * may only make system calls: no allocation, no lock, no libc state but errno, which belongs to the parent's thread
 * that CLONE_VFORK suspends meanwhile. Everything it needs is prepared before. Other threads go on running.
 *
 * Man pages: clone(2), vfork(2), close_range(2), PR_SET_PDEATHSIG(2const), cgroups(7),
 * setrlimit(2). Linux 5.9 or newer. */

#include "native.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK_SIZE (64 * 1024)

/* All that the child reads and the two fields that it writes; lives in the stack frame of the suspended parent. */
struct child {
    const spawn_request *request;
    char **argv;
    char **env;
    int *fds;
    pid_t parent;
    volatile int error;
    const char *volatile failed;
};

/* Handlers belong to the parent's code and an ignored signal would stay ignored in the program: default for all. By
 * system call, since libc keeps two signals from its callers, and whoever started us may have ignored those: an action of
 * zeroes is the default in the kernel's own struct, which has four words at most. Only then is the mask emptied, so that
 * no handler of ours ever runs in the child. */
static void child_reset_signals(void)
{
    static const unsigned long action[4];
    for (int number = 1; number < NSIG; number++)
        syscall(SYS_rt_sigaction, number, action, NULL, (size_t)8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The signal is lost when the parent died before prctl; the new parent tells. */
static int child_set_pdeathsig(const struct child *child)
{
    if (prctl(PR_SET_PDEATHSIG, child->request->pdeathsig, 0, 0, 0) < 0)
        return -1;
    if (getppid() != child->parent)
        _exit(127);
    return 0;
}

/* Those fds that sit where another one has to go are moved above all targets first, so that no dup2 hits a source
 * that is still wanted, and none is a dup2 onto itself, which would leave CLOEXEC set. */
static int child_move_fds(const struct child *child)
{
    int count = (int)child->request->nfds;
    for (int i = 0; i < count; i++)
        if (child->fds[i] < count && (child->fds[i] = fcntl(child->fds[i], F_DUPFD_CLOEXEC, count)) < 0)
            return -1;
    for (int i = 0; i < count; i++)
        if (dup2(child->fds[i], i) < 0)
            return -1;
    return 0;
}

static int child_limit_open_files(const struct child *child)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -1;
    limit.rlim_cur = (rlim_t)child->request->open_files;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

/* Makes the child what was asked for and execs. Returns the name of the step that failed, errno set. */
static const char *child_exec(const struct child *child)
{
    const spawn_request *request = child->request;
    child_reset_signals();
    if (request->setsid && setsid() < 0)
        return "setsid";
    if (request->pdeathsig && child_set_pdeathsig(child) < 0)
        return "prctl";
    if (request->cgroup_procs_fd >= 0 && write(request->cgroup_procs_fd, "0", 1) != 1)
        return "cgroup.procs";
    if (request->cwd && chdir(request->cwd) < 0)
        return "chdir";
    if (child_move_fds(child) < 0)
        return "dup2";
    if (request->open_files >= 0 && child_limit_open_files(child) < 0)
        return "setrlimit";
    if (syscall(SYS_close_range, (unsigned)request->nfds, ~0U, 0U) < 0)
        return "close_range";
    execve(child->argv[0], child->argv, child->env);
    return "execve";
}

/* Entry point of the child. */
static int child_main(void *argument)
{
    struct child *child = argument;
    const char *failed = child_exec(child);
    child->error = errno;
    child->failed = failed;
    _exit(127);
}

/* A NULL-terminated array of pointers to the strings in block; NULL when there is no memory. */
static char **pointers(const char *block, size_t count)
{
    char **array = malloc((count + 1) * sizeof(*array));
    if (!array)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        array[i] = (char *)block;
        block += strlen(block) + 1;
    }
    array[count] = NULL;
    return array;
}

/* Runs the child up to its exec on a stack of its own, with all signals of this thread held back meanwhile:
 * a handler must not run in the child, and the program must not start with half a signal delivered.
 * Returns 0 with pid and pidfd in result, or a negative errno with the child already reaped. */
static int run_child(struct child *child, spawn_result *result)
{
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    int pid = clone(child_main, stack + STACK_SIZE, flags, child, &result->pidfd);
    if (pid < 0) {
        child->error = errno;
        child->failed = "clone";
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_SIZE);
    result->pid = pid;
    result->failed = child->failed;
    if (pid > 0 && child->error) {
        while (waitid(P_PIDFD, (id_t)result->pidfd, NULL, WEXITED) < 0 && errno == EINTR)
            ; /* ECHILD: somebody else's sweep was quicker */
        close(result->pidfd);
    }
    return -child->error;
}

/* Python gets pid and pidfd (CLOEXEC, its own from now on), or a negative errno and the step that failed. */
int ocishim_spawn(const spawn_request *request, spawn_result *result)
{
    int error = -ENOMEM;
    struct child child = { .request = request, .parent = getpid() };
    result->failed = "malloc";
    child.argv = pointers(request->argv, request->argc);
    child.env = pointers(request->env, request->envc);
    child.fds = malloc((request->nfds + 1) * sizeof(int));
    if (child.argv && child.env && child.fds) {
        if (request->nfds)
            memcpy(child.fds, request->fds, request->nfds * sizeof(int));
        error = run_child(&child, result);
    }
    free(child.fds);
    free(child.env);
    free(child.argv);
    return error;
}
