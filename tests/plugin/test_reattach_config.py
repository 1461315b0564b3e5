"""The record of a plugin that runs says all that another process needs, or that it does not."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plugins import config

from shim.errors import DataLoss, NotFound, Unavailable
from shim.plugin.client import PluginClient
from shim.plugin.local_process import LocalProcess
from shim.plugin.local_runner import LocalRunner
from shim.plugin.protocol.handshake import PluginAddress
from shim.plugin.protocol.mutual_tls import Identity
from shim.plugin.reattach_config import ReattachConfig

words = st.text(max_size=20)
addresses = st.builds(PluginAddress, st.integers(0, 99), st.sampled_from(["unix", "tcp"]), words, st.binary())
configs = st.builds(
    ReattachConfig, words, addresses, words, words, st.none() | st.builds(Identity, words, words)
)

SAMPLE = ReattachConfig(
    "7", PluginAddress(2, "unix", "/s/plugin1", b"DER"), "/s", "12", Identity("PEM", "KEY")
)


@given(configs)
def test_what_is_written_is_read(found):
    assert ReattachConfig.from_record(found.to_record(), "it") == found


async def test_only_its_user_can_read_the_file(tmp_path):
    await SAMPLE.save(tmp_path / "plugin.json")
    assert ReattachConfig.load(tmp_path / "plugin.json") == SAMPLE
    assert os.stat(tmp_path / "plugin.json").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("member", SAMPLE.to_record().keys() - {"protocol"})
def test_what_lacks_something_is_broken(member):
    record = SAMPLE.to_record()
    del record[member]
    with pytest.raises(DataLoss, match="it tells of no plugin"):
        ReattachConfig.from_record(record, "it")


@pytest.mark.parametrize(
    "change", [{"certificate": "="}, {"identity": {"key": "x"}}, {"identity": 7}, {"protocol_version": "two"}]
)
def test_what_is_not_as_it_should_be_is_broken(change):
    with pytest.raises(DataLoss, match="it tells of no plugin"):
        ReattachConfig.from_record({**SAMPLE.to_record(), **change}, "it")


async def test_what_is_there_and_does_not_answer_is_left_alone(leaks, tmp_path):
    address = PluginAddress(2, "unix", str(tmp_path / "none"))
    found = dataclasses.replace(SAMPLE, address=address, socket_dir=str(tmp_path), identity=None)
    process = LocalProcess.attach(os.getpid())
    with pytest.raises(Unavailable, match="no answer from the plugin"):
        await PluginClient.reattach(config(), found, process)
    process.detach()
    assert tmp_path.exists()


async def test_a_process_that_has_gone_cannot_be_attached_to(leaks):
    runner = LocalRunner(["true"], {})
    await runner.start()
    await runner.wait()
    with pytest.raises(NotFound, match=f"process {runner.id}"):
        LocalProcess.attach(int(runner.id))
    await runner.kill()
