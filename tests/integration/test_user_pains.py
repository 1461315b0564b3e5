"""What users of shims suffer from, and what shows that they need not here.

``SCENARIOS``, ``RULES`` and ``BAD_INPUT`` name the tests for each, those in this file and those elsewhere. ``OCISHIM_SCALE`` makes the
ones that count things as large as one likes: CI has time for few.
"""

from __future__ import annotations

import errno
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.disks import small_disk
from support.shims import raises

from shim.errors import DeadlineExceeded

TESTS = bed.CHECKOUT / "tests"

SCENARIOS = {
    "an exec leaves a child in the background, then Wait and Delete": [
        "integration/test_execs.py::test_a_background_child_holds_nobody_up",
    ],
    "an init ends right after its start": [
        "integration/test_lifecycle.py::test_an_init_that_ends_at_once",
        "bootstrap/test_events.py::test_what_is_over_at_once_and_what_never_ran",
    ],
    "70 execs at once": ["integration/test_execs.py::test_seventy_at_once"],
    "a shim is killed, and containerd runs delete": [
        "integration/test_dead_shim.py::test_containers_in_every_state",
        "integration/test_dead_shim.py::test_what_the_kernel_does_not_end_with_the_init",
        "bootstrap/test_start.py::test_delete_finds_how_it_ended",
        "containerd/test_ctr.py::test_a_killed_shim_leaves_nothing",
        "containerd/test_cri.py::test_a_pod_whose_shim_is_killed_leaves_nothing",
    ],
    "the OCI runtime is stopped during an exec": [
        "integration/test_user_pains.py::test_the_runtime_of_an_exec_is_stopped",
        "integration/test_hanging_runtime.py::test_nobody_waits_for_an_exec",
        "integration/test_hanging_runtime.py::test_an_exec_is_deleted_while_it_starts",
    ],
    "the reader of the output stops for long": [
        "integration/test_streams.py::test_a_reader_that_comes_back_loses_nothing",
        "integration/test_streams.py::test_a_slow_reader_holds_up_nobody_else",
        "integration/test_streams.py::test_output_of_an_unread_stream_is_counted_when_it_is_dropped",
        "containerd/test_restart.py::test_containerd_may_die_under_a_talking_container",
    ],
    "the log file is immutable for a moment": [
        "integration/test_user_pains.py::test_a_log_file_that_is_immutable_for_a_moment",
    ],
    "Create is cancelled at any moment": [
        "integration/test_cancellation.py::test_creates_are_cancelled_at_any_moment",
        "integration/test_cancellation.py::test_clients_go_away_at_any_moment",
        "containerd/test_user_pains.py::test_ctr_is_killed_at_any_moment",
    ],
    "out of memory with a limit on the pod alone": [
        "bootstrap/test_events.py::test_out_of_memory_in_the_pod_is_told_before_the_exit",
        "cgroup/test_events.py::test_a_limit_of_the_pod_counts_in_the_container",
    ],
    "execs without end": ["integration/test_execs.py::test_many_in_a_row_leave_nothing"],
    "the root filesystem is busy at Delete": [
        "containerd/test_user_pains.py::test_a_root_filesystem_that_is_busy_is_detached",
        "integration/test_lifecycle.py::test_a_rootfs_that_is_busy_is_detached",
    ],
    "containerd is restarted again and again": [
        "containerd/test_user_pains.py::test_containerd_is_killed_again_and_again",
        "containerd/test_restart.py::test_containerd_may_die_under_a_pod",
    ],
    "CloseIO before Start, twice, after the exit": [
        "integration/test_streams.py::test_stdin_ends_when_it_is_closed",
    ],
    "SIGKILL and Delete of what is paused": [
        "integration/test_lifecycle.py::test_sigkill_while_paused",
        "integration/test_limits.py::test_a_paused_container_is_killed",
        "integration/test_hanging_runtime.py::test_sigkill_between_the_freezing_and_the_end_of_a_pause",
    ],
    "the shim is replaced while it runs, then delete": [
        "integration/test_user_pains.py::test_the_program_is_replaced_under_a_shim",
    ],
}

RULES = {
    "no handler waits for a runtime or a disk that another one waits for": [
        "integration/test_hanging_runtime.py::test_nobody_waits_for_a_create",
        "integration/test_hanging_runtime.py::test_nobody_waits_for_a_start",
        "integration/test_hanging_runtime.py::test_nobody_waits_for_a_delete",
        "integration/test_hanging_disk.py::test_a_log_that_hangs_holds_up_no_other_stream",
        "integration/test_hanging_disk.py::test_a_bundle_that_hangs_holds_up_no_other_container",
    ],
    "what is told is on disk": [
        "integration/test_hanging_disk.py::test_a_bundle_that_hangs_holds_up_no_other_container",
        "integration/test_dead_shim.py::test_a_shim_that_dies_while_it_creates",
        "store/test_records.py::test_a_crash_at_any_step_leaves_the_old_record_or_the_new",
    ],
    "delete works from disk alone, and twice": [
        "integration/test_dead_shim.py::test_containers_in_every_state",
        "integration/test_dead_shim.py::test_a_bundle_that_never_had_a_container",
        "integration/test_dead_shim.py::test_a_runtime_that_is_gone",
        "bootstrap/test_start.py::test_delete_of_what_never_existed",
    ],
    "everything has a deadline": [
        "integration/test_hanging_runtime.py::test_a_create_is_killed",
        "integration/test_hanging_runtime.py::test_an_exec_is_killed",
        "integration/test_hanging_runtime.py::test_a_delete_is_killed_and_can_be_tried_again",
        "integration/test_cancellation.py::test_a_deadline_passes_during_create",
        "bootstrap/test_containerd.py::test_delete_goes_on_when_the_runtime_hangs",
    ],
    "a process is its pidfd, not its pid": [
        "process/test_reaper.py::test_a_pid_that_came_round_again_is_the_one_that_lives",
        "process/test_reaper.py::test_no_exit_goes_from_one_window_to_a_later_one",
    ],
    "a drain is bounded, an exit waits for no output, and nothing is lost in silence": [
        "integration/test_execs.py::test_a_background_child_holds_nobody_up",
        "integration/test_execs.py::test_the_output_of_an_exec_survives_the_container",
        "integration/test_streams.py::test_output_of_an_unread_stream_is_counted_when_it_is_dropped",
    ],
    "cgroup v2 by its files": [
        "integration/test_limits.py::test_leftover_processes_are_killed",
        "cgroup/test_events.py::test_a_limit_of_the_pod_counts_in_the_container",
        "containerd/test_cgroup2.py::test_an_out_of_memory_kill_is_told_before_the_exit",
    ],
    "what is of no use ends": [
        "integration/test_shim_process.py::test_a_shim_that_nobody_uses_ends",
        "integration/test_shim_process.py::test_a_shim_whose_last_client_leaves_ends",
        "integration/test_shim_process.py::test_a_shim_whose_containers_are_cleared_away_without_it_ends",
    ],
    "events have their order": [
        "bootstrap/test_events.py::test_a_life_with_an_outage_in_it",
        "bootstrap/test_events.py::test_out_of_memory_is_told_before_the_exit",
        "containerd/test_ctr.py::test_events_come_in_order",
    ],
    "a shim tells how it is": [
        "service/test_task_service.py::test_inspect_tells_how_the_shim_is",
        "service/test_task_service.py::test_inspect_tells_about_a_container",
        "integration/test_shim_process.py::test_sigusr1_shows_where_it_is",
    ],
}

BAD_INPUT = {
    "an empty namespace": [
        "service/test_bad_clients.py::test_an_empty_namespace",
        "bootstrap/test_containerd.py::test_names_that_cannot_be",
    ],
    "a socket path that is too long": [
        "integration/test_shim_process.py::test_a_state_root_that_is_too_long",
        "bootstrap/test_containerd.py::test_a_directory_too_long_for_sockets",
        "bootstrap/test_listener.py::test_the_longest_path_and_one_more",
    ],
    "a bundle without config.json": [
        "integration/test_bad_input.py::test_a_bundle_that_is_not_there",
        "bootstrap/test_placement.py::test_without_a_config_json",
    ],
    "options that cannot be decoded, and unknown type URLs": [
        "service/test_bad_clients.py::test_options_that_cannot_be",
        "service/test_task_service.py::test_create_refuses_options_it_cannot_read",
        "bootstrap/test_containerd.py::test_options_that_cannot_be",
    ],
    "frames over 4 MiB": ["service/test_bad_clients.py::test_a_frame_that_is_too_large"],
    "garbage": [
        "integration/test_bad_input.py::test_garbage_harms_nobody_else",
        "service/test_bad_clients.py::test_what_cannot_be_decoded",
        "service/test_bad_clients.py::test_an_end_inside_a_frame_is_said_once",
    ],
    "a thousand idle connections": ["service/test_bad_clients.py::test_a_thousand_idle_connections"],
    "even and used stream ids": ["service/test_bad_clients.py::test_bad_ids"],
    "unknown methods": ["service/test_bad_clients.py::test_unknown_names"],
    "another uid": ["service/test_bad_clients.py::test_another_user_or_group"],
    "two starts of one id at once": ["bootstrap/test_start.py::test_of_two_at_once_both_name_the_same_shim"],
    "delete of what never was": ["bootstrap/test_start.py::test_delete_of_what_never_existed"],
    "containerd's socket is gone": ["bootstrap/test_events.py::test_a_life_with_an_outage_in_it"],
}


@pytest.mark.parametrize("what", [*SCENARIOS, *RULES, *BAD_INPUT])
def test_it_has_its_tests(what: str):
    for name in (SCENARIOS | RULES | BAD_INPUT)[what]:
        file, _, function = name.partition("::")
        assert re.search(rf"^ *(async )?def {function}\(", (TESTS / file).read_text(), re.MULTILINE), name


@pytest.mark.root
def test_the_runtime_of_an_exec_is_stopped(shim, tmp_path):
    """Everything but that exec goes on, also another exec."""
    runtime = tmp_path / "runc-stopped"
    stops = f'case " $* " in *" exec "*) [ -e {tmp_path}/go ] || {{ : > {tmp_path}/here; kill -STOP $$; }} ;; esac'
    runtime.write_text(f'#!/bin/sh\n{stops}\nexec {bed.need_runtime("runc")} "$@"\n')
    runtime.chmod(0o755)
    container = shim.running(runtime=str(runtime), runtime_timeout=2.0)
    container.add_exec("stuck", ["true"])
    starting = container.begin("Start", exec_id="stuck")
    until((tmp_path / "here").exists, "the runtime")
    (tmp_path / "go").touch()
    container.exec("other", ["sh", "-c", "exit 3"])
    assert container.wait("other") == 3
    assert container.pid in container.pids()
    assert container.state("stuck") == "CREATED"
    assert not starting.done
    with raises(DeadlineExceeded, "exec", "was killed"):
        starting.result()
    assert container.wait("stuck") == 255
    assert container.end() == 137


@pytest.mark.root
def test_a_log_file_that_is_immutable_for_a_moment(shim, tmp_path):
    """Not a byte is lost, and the container notices nothing."""
    with small_disk(tmp_path) as disk:
        log = disk.path / "log"
        script = "trap 'seq 1 2000; exit 4' USR1; echo ready; while :; do sleep 0.01; done"
        container = shim.running(["sh", "-c", script], stdout=f"file://{log}")
        until(lambda: log.read_text() == "ready\n", "the first line")
        subprocess.run(["chattr", "+i", log], check=True)
        container.kill(signal.SIGUSR1)
        until(lambda: container.inspect()["streams"][0]["stalled_errno"] == errno.EPERM, "a refused write")
        subprocess.run(["chattr", "-i", log], check=True)
        assert container.wait() == 4
        container.delete()
        assert log.read_text() == "ready\n" + "".join(f"{n}\n" for n in range(1, 2001))
        assert "can be written again" in shim.process.log.read_text()


@pytest.mark.root
def test_the_program_is_replaced_under_a_shim(start, lend, tmp_path, monkeypatch):
    """As a package manager does it: the new one is there, and the old one is not. Both clear away what there is."""
    package, fresh = tmp_path / "package", tmp_path / "fresh"
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(bed.CHECKOUT / "shim", package / "shim", ignore=without_caches)
    shutil.copytree(package, fresh)
    monkeypatch.setenv("PYTHONPATH", str(package))
    process = start()
    shim = lend(process)
    container = shim.container()
    assert f"{package}/shim/_ffi" in Path(f"/proc/{process.pid}/maps").read_text()
    shutil.rmtree(package)
    fresh.rename(package)

    container.start()
    container.call("Pause")
    container.call("Resume")
    container.call("Stats")
    container.exec("e", ["sh", "-c", "exit 3"])
    assert container.wait("e") == 3
    left = shim.running()
    assert container.end() == 137

    process.kill()
    Path(process.address.removeprefix("unix://")).unlink()
    program = "import sys; from shim.bootstrap.delete import delete_from_disk; delete_from_disk(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, left.bundle], check=True, cwd="/")
    until(lambda: not Path(f"/proc/{left.pid}").exists(), "the end of the init")
