import subprocess
import sys

# Both change the calling process for good, so each runs in one of its own.


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_orphans_come_to_the_subreaper():
    # The orphan ends when its parent has: a child that ends before is reaped by the shell.
    code = (
        "import os, subprocess\n"
        "from shim.linux.prctl import set_child_subreaper\n"
        "set_child_subreaper()\n"
        "wait, go = os.pipe()\n"
        "script = '(read _; exit 5) <&3 >/dev/null & echo $!'\n"
        "os.dup2(wait, 3) if wait != 3 else os.set_inheritable(3, True)\n"
        "orphan = subprocess.check_output(['sh', '-c', script], close_fds=False)\n"
        "os.close(go)\n"
        "pid, status = os.waitpid(int(orphan), 0)\n"
        "print(os.waitstatus_to_exitcode(status))\n"
    )
    assert run(code) == "5"


def test_name_is_what_ps_shows():
    code = (
        "from shim.linux.prctl import set_name\n"
        "set_name('ocishim:a-long-container-name')\n"
        "print(open('/proc/self/comm').read())\n"
    )
    assert run(code) == "ocishim:a-long-"
