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


def test_the_command_line_and_environment_that_others_see():
    # Longer than those of the exec, and the heap still grows afterwards.
    code = (
        "from shim.linux.prctl import set_command_line\n"
        "set_command_line([b'program', b'', b'x' * 9000], [b'A=\\xff', b'B='])\n"
        "list(range(10**6))\n"
        "words = open('/proc/self/cmdline', 'rb').read().split(b'\\0')\n"
        "print([len(word) for word in words], open('/proc/self/environ', 'rb').read())\n"
        "set_command_line([b'again'], [])\n"
        "print(open('/proc/self/cmdline', 'rb').read(), open('/proc/self/environ', 'rb').read())\n"
    )
    assert run(code) == r"[7, 0, 9000, 0] b'A=\xff\x00B=\x00'" + "\n" + r"b'again\x00' b''"


def test_a_child_that_ends_with_its_parent():
    code = (
        "import os, signal, time\n"
        "from shim.linux.prctl import set_child_subreaper, set_parent_death_signal\n"
        "set_child_subreaper()\n"
        "wait, go = os.pipe()\n"
        "if not os.fork():\n"
        "    if not os.fork():\n"
        "        set_parent_death_signal(signal.SIGKILL)\n"
        "        os.write(go, b'x')\n"
        "        time.sleep(100)\n"
        "    os.read(wait, 1)\n"
        "    os._exit(0)\n"
        "print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)))\n"
    )
    assert run(code) == "[-9, 0]"
