"""How a container is made: step by step, each with its undoing, which runs in reverse when a later one fails.

What is needed to clear it away without its shim is on disk before the runtime makes anything.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shim.linux.loopback_hook import hook
from shim.linux.mounts import mount_all
from shim.oci.identifiers import validate_id
from shim.oci.spec import with_network_hook, with_resources, without_pid_path
from shim.process.thread import in_thread
from shim.runtime import driver_for
from shim.task import events
from shim.task.bundle import Bundle, limits_of
from shim.task.checkpoint import as_written, check_image
from shim.task.container import Container
from shim.task.control_group import ControlGroup
from shim.task.remains import remember

if TYPE_CHECKING:
    from shim.oci.spec import Spec
    from shim.runtime import Driver
    from shim.task.request import CreateRequest
    from shim.task.workshop import Pod, Workshop

__all__ = ["create"]


async def create(shop: Workshop, request: CreateRequest) -> Container:
    """The container exists, its init waits for Start.

    Raises:
        ShimError: it cannot be made; no process, mount, cgroup or file of it is left.
    """
    validate_id(request.id)
    if request.restore_from is not None:
        check_image(request.restore_from)
        request = replace(request, restore_from=as_written(request.restore_from))
    bundle = Bundle(Path(request.bundle))
    given = bundle.load_spec()
    sandbox = shop.sandbox_of(given.annotations)
    if sandbox is not None:
        request = sandbox.configured(request)
    driver = await driver_for(request.config, shop.namespace, shop.reaper)
    async with AsyncExitStack() as undo:
        if request.rootfs:
            undo.push_async_callback(bundle.unmount_rootfs)
            bundle.rootfs.mkdir(mode=0o711, exist_ok=True)
            await in_thread(mount_all, request.rootfs, str(bundle.rootfs))
        bundle.check_rootfs(given)
        group = ControlGroup.plan(shop, request.config, given, request.id)
        spec = _configured(given, request, driver, sandbox)
        for_runtime = group.rewrite(spec.raw)
        if for_runtime != given.raw:
            bundle.save_spec(for_runtime)
        container = Container(shop, request, spec, driver, group)
        await bundle.forget_exit()
        undo.push_async_callback(container.forget)
        await remember(bundle, request.id, shop.namespace, request.config, group.path)
        undo.push_async_callback(group.unmake)
        group.create(spec.resources)
        await container.create()
        undo.pop_all()
    shop.publish(_told(request, container.pid))
    return container


def _configured(spec: Spec, request: CreateRequest, driver: Driver, pod: Pod | None) -> Spec:
    raw = spec.raw
    if limits := limits_of(request.config):
        raw = with_resources(raw, limits)
    if pod is not None:
        raw = pod.laid_into(raw, driver)
    if request.restore_from is not None and not driver.waits_by_command:
        raw = with_network_hook(raw, hook())
    if driver.joins_sandbox(raw.get("annotations") or {}):
        # gVisor takes the path for a mere name: the first container that says it gets a pid namespace, with which all who
        # say it later end. Without a namespace of its own a container is in that of the sandbox.
        raw = without_pid_path(raw)
    return replace(spec, raw=raw)


def _told(request: CreateRequest, pid: int) -> events.TaskCreated:
    image = request.restore_from.image_path if request.restore_from else ""
    return events.TaskCreated(request.id, request.bundle, tuple(request.rootfs), request.streams, image, pid)
