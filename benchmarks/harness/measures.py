"""What is measured, in the order in which it is shown; of all of it less is better."""

from __future__ import annotations

MEASURES = {
    "start": "from the execution of the program to the address that it prints",
    "start to first answer": "and on, until the new shim has answered a call",
    "cold start to first answer": "the same; without a template process an interpreter is started",
    "create to delete": "create, start, wait and delete of a container that runs `/bin/true`",
    "own share of create to delete": "what that takes longer than the same calls of the runtime by hand",
    "start to shutdown": "a whole life, from the execution of the program to the end of the shim",
    "start to the first byte": "from the execution of the program to a container's first byte of output",
    "50 at once": "50 whole lives of containers with a shim each, all at the same time",
    "200 at once": "200 of them",
    "memory": "private memory of a shim with one container that runs, where there are 20",
    "memory that shims share": "with each other or with a template, and is paid once for all",
    "memory of a further container": "in a shim that the containers of a pod share",
    "memory that execs leave": "100 of them; 1,000 in a full run",
    "State": "a call that asks for a container's state",
    "Stats": "a call that asks for its statistics",
    "Pids": "a call that asks for its processes",
    "exec": "`/bin/true` in a container that runs, from start to exit",
    "exec, 10 per second": "the same, for 5 seconds; for a minute in a full run",
    "CPU of an exec": "used by the shim itself in that storm, for each",
    "1,000 events": "until the last of them has arrived",
    "output by FIFO": "1 GiB from the container to a client",
    "CPU of output by FIFO": "used by the shim for that GiB",
    "output by terminal": "1 GiB, from 64 MiB",
    "CPU of output by terminal": "used by the shim for that GiB",
    "output into a file": "1 GiB, from 256 MiB; conmon writes its log",
    "delete after a killed shim": "what containerd executes to clear away",
    "C in native/": "lines",
}
