import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cgroup.limits import LEAST_CPU_NANOS, Write, controllers_of, cpu_nanos_to_quota, plan
from shim.errors import InvalidArgument

BILLION = 1_000_000_000
# Ten thousand CPUs are more than any machine has.
DIVISORS = sorted(d for a in range(10) for b in range(10) if (d := 2**a * 5**b) <= 1_000_000)
shares_of_a_machine = st.integers(LEAST_CPU_NANOS, 10_000 * BILLION)


def files(resources):
    return [(write.file, write.value) for write in plan(resources)]


class TestCpuNanos:
    @pytest.mark.parametrize(
        ("nanos", "expected"),
        [
            (BILLION, (100_000, 100_000)),
            (500_000_000, (50_000, 100_000)),
            (1_500_000_000, (150_000, 100_000)),
            (10_000_000, (1_000, 100_000)),  # the least share that 100 ms can express
            (9_990_000, (1_998, 200_000)),  # would be 999 us in 100 ms
            (5_000_000, (1_000, 200_000)),
            (1_000_000, (1_000, 1_000_000)),  # the least of all
            (333_333_000, (333_333, 1_000_000)),
            (123_456_000, (13_503, 109_375)),
        ],
    )
    def test_examples(self, nanos, expected):
        assert cpu_nanos_to_quota(nanos) == expected

    @given(shares_of_a_machine)
    def test_the_kernel_accepts_every_result(self, nanos):
        quota, period = cpu_nanos_to_quota(nanos)
        assert quota >= 1_000
        assert 100_000 <= period <= 1_000_000

    @given(st.integers(LEAST_CPU_NANOS // 1000, 10_000_000).map(lambda n: n * 1000))
    def test_multiples_of_1000_are_exact(self, nanos):
        quota, period = cpu_nanos_to_quota(nanos)
        assert quota * BILLION == nanos * period

    @given(st.data())
    def test_exact_wherever_any_period_is_and_then_the_shortest(self, data):
        """No period that expresses the share exactly, and that the kernel takes, is shorter than ours."""
        divisor = data.draw(st.sampled_from(DIVISORS))
        length = data.draw(st.integers(-(-100_000 // divisor), 1_000_000 // divisor))
        ticks = data.draw(st.integers(-(-1_000 // length), 1_000_000))
        # Exact in this period, in which it is a quota of length * ticks.
        period, nanos = divisor * length, BILLION // divisor * ticks
        quota, chosen = cpu_nanos_to_quota(nanos)
        assert quota * BILLION == nanos * chosen
        assert chosen <= period

    def test_odd_periods_are_used_where_they_are_exact(self):
        """1280 divides 10**9 and is no multiple of 1000: exact in 781,250 us only."""
        assert cpu_nanos_to_quota(1280 * 1001) == (1001, 781_250)

    @given(shares_of_a_machine)
    def test_never_above_and_less_than_a_millionth_of_a_cpu_below(self, nanos):
        quota, period = cpu_nanos_to_quota(nanos)
        missing = nanos * period - quota * BILLION
        assert missing >= 0
        assert missing * 1_000_000 < BILLION * period

    @given(shares_of_a_machine)
    def test_100_ms_is_preferred(self, nanos):
        if nanos % 10_000 == 0 and nanos >= 10_000_000:
            assert cpu_nanos_to_quota(nanos)[1] == 100_000

    @pytest.mark.parametrize("nanos", [999_999, 1, 0, -1, -BILLION])
    def test_below_the_least(self, nanos):
        with pytest.raises(InvalidArgument, match=f"cpu_nanos = {nanos} .* least value is 1000000 "):
            cpu_nanos_to_quota(nanos)

    def test_beyond_any_machine(self):
        with pytest.raises(InvalidArgument, match="more than the kernel can count"):
            cpu_nanos_to_quota(10**18)


class TestCpu:
    def test_quota_and_period(self):
        assert files({"cpu": {"quota": 50000, "period": 200000}}) == [("cpu.max", "50000 200000")]

    def test_the_period_defaults(self):
        assert files({"cpu": {"quota": 50000}}) == [("cpu.max", "50000 100000")]

    def test_no_limit(self):
        assert files({"cpu": {"quota": -1}}) == [("cpu.max", "max 100000")]
        assert files({"cpu": {"period": 50000}}) == [("cpu.max", "max 50000")]

    def test_burst_is_cleared_before_the_quota_changes(self):
        assert files({"cpu": {"quota": 50000, "burst": 10000}}) == [
            ("cpu.max.burst", "0"),
            ("cpu.max", "50000 100000"),
            ("cpu.max.burst", "10000"),
        ]
        assert files({"cpu": {"burst": 10000}}) == [("cpu.max.burst", "10000")]

    @pytest.mark.parametrize(
        ("shares", "weight"),
        [(1, 1), (2, 1), (1024, 39), (2048, 79), (262144, 10000), (999999999, 10000)],
    )
    def test_shares_become_a_weight(self, shares, weight):
        assert files({"cpu": {"shares": shares}}) == [("cpu.weight", str(weight))]

    def test_idle(self):
        assert files({"cpu": {"idle": 1}}) == [("cpu.idle", "1")]
        assert files({"cpu": {"idle": 0}}) == [("cpu.idle", "0")]

    def test_a_weight_is_written_while_the_group_is_not_idle(self):
        assert files({"cpu": {"idle": 1, "shares": 2}}) == [
            ("cpu.idle", "0"),
            ("cpu.weight", "1"),
            ("cpu.idle", "1"),
        ]
        assert files({"cpu": {"idle": 0, "shares": 2}}) == [("cpu.idle", "0"), ("cpu.weight", "1")]

    def test_sets(self):
        assert files({"cpu": {"cpus": "0-3,7", "mems": "0"}}) == [
            ("cpuset.cpus", "0-3,7"),
            ("cpuset.mems", "0"),
        ]

    @pytest.mark.parametrize(
        ("cpu", "field"),
        [
            ({"quota": 999}, "cpu.quota = 999"),
            ({"quota": -2}, "cpu.quota = -2"),
            ({"quota": "1"}, "cpu.quota = '1'"),
            ({"quota": True}, "cpu.quota = True"),
            ({"quota": 1.5}, "cpu.quota = 1.5"),
            ({"period": 999}, "cpu.period = 999"),
            ({"period": 1_000_001}, "cpu.period = 1000001"),
            ({"quota": 5000, "burst": 6000}, "cpu.burst = 6000"),
            ({"shares": -1}, "cpu.shares = -1"),
            ({"idle": 2}, "cpu.idle = 2"),
            ({"cpus": "0-3\n"}, None),
            ({"cpus": "all"}, "cpu.cpus = 'all'"),
            ({"cpus": 3}, "cpu.cpus = 3"),
            ({"realtimeRuntime": 1}, "cpu.realtimeRuntime = 1 has no counterpart"),
        ],
    )
    def test_bad_values_are_named(self, cpu, field):
        if field is None:
            assert files({"cpu": cpu}) == [("cpuset.cpus", "0-3")]
            return
        with pytest.raises(InvalidArgument, match=f"linux.resources: {field}"):
            plan({"cpu": cpu})


class TestMemory:
    def test_limit(self):
        assert files({"memory": {"limit": 1 << 20}}) == [("memory.max", "1048576")]

    def test_reservation(self):
        assert files({"memory": {"reservation": 4096}}) == [("memory.low", "4096")]

    @pytest.mark.parametrize(
        ("memory", "expected"),
        [
            ({"limit": 100, "swap": 300}, [("memory.swap.max", "200"), ("memory.max", "100")]),
            ({"limit": 100, "swap": 100}, [("memory.swap.max", "0"), ("memory.max", "100")]),
            ({"limit": 100, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "100")]),
            ({"limit": 100, "swap": 0}, [("memory.max", "100")]),
            ({"limit": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
            ({"limit": -1, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
            ({"limit": 0}, []),
        ],
    )
    def test_swap_is_what_exceeds_the_limit(self, memory, expected):
        assert files({"memory": memory}) == expected

    def test_what_a_kernel_without_swap_accounting_has_anyway_is_optional(self):
        assert plan({"memory": {"limit": 100, "swap": 100}})[0].optional
        assert not plan({"memory": {"limit": 100, "swap": 101}})[0].optional

    def test_check_before_update(self):
        assert plan({"memory": {"limit": 100, "checkBeforeUpdate": True}})[0].not_below == "memory.current"
        assert plan({"memory": {"limit": 100}})[0].not_below is None

    @pytest.mark.parametrize(
        ("memory", "field"),
        [
            ({"swap": 100}, "memory.swap = 100 needs memory.limit"),
            ({"limit": -1, "swap": 100}, "memory.swap = 100 needs memory.limit"),
            ({"limit": 100, "swap": 99}, "memory.swap = 99 must not be below"),
            ({"limit": -2}, "memory.limit = -2"),
            ({"limit": 1 << 64}, "memory.limit = 18446744073709551616"),
            ({"limit": "64m"}, "memory.limit = '64m' must be an integer"),
            ({"swappiness": 60}, "memory.swappiness = 60 has no counterpart"),
            ({"disableOOMKiller": True}, "memory.disableOOMKiller = True has no counterpart"),
            ({"limit": 1, "checkBeforeUpdate": 1}, "memory.checkBeforeUpdate = 1 must be true or false"),
        ],
    )
    def test_bad_values_are_named(self, memory, field):
        with pytest.raises(InvalidArgument, match=f"linux.resources: {field}"):
            plan({"memory": memory})

    def test_neutral_values_of_v1_fields_are_ignored(self):
        assert (
            files({"memory": {"swappiness": 0, "disableOOMKiller": False, "kernel": 5, "kernelTCP": None}})
            == []
        )


class TestOthers:
    @pytest.mark.parametrize(
        ("limit", "expected"),
        [
            (100, [("pids.max", "100")]),
            (-1, [("pids.max", "max")]),
            (-5, [("pids.max", "max")]),
            (0, []),
            (None, []),
        ],
    )
    def test_pids(self, limit, expected):
        assert files({"pids": {"limit": limit}}) == expected

    def test_throttles_of_one_device_are_one_write(self):
        device = {"major": 8, "minor": 0}
        resources = {
            "blockIO": {
                "throttleReadBpsDevice": [{**device, "rate": 1}, {"major": 8, "minor": 16, "rate": 5}],
                "throttleWriteBpsDevice": [{**device, "rate": 2}],
                "throttleReadIOPSDevice": [{**device, "rate": 3}],
                "throttleWriteIOPSDevice": [{**device, "rate": 0}],
            }
        }
        assert files(resources) == [
            ("io.max", "8:0 rbps=1 wbps=2 riops=3 wiops=max"),
            ("io.max", "8:16 rbps=5"),
        ]

    def test_io_weight_prefers_bfq(self):
        writes = plan({"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}})
        assert [(w.file, w.value) for w in writes] == [("io.bfq.weight", "500"), ("io.bfq.weight", "8:0 10")]
        assert [(w.instead.file, w.instead.value) for w in writes] == [
            ("io.weight", "4950"),
            ("io.weight", "8:0 1"),
        ]

    def test_huge_pages_are_limited_in_use_and_in_reserve(self):
        assert files({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}) == [
            ("hugetlb.2MB.max", "4194304"),
            ("hugetlb.2MB.rsvd.max", "4194304"),
        ]

    def test_rdma(self):
        assert files(
            {"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 1000}, "mlx5_1": {"hcaObjects": 0}}}
        ) == [
            ("rdma.max", "mlx5_0 hca_handle=3 hca_object=1000"),
            ("rdma.max", "mlx5_1 hca_object=0"),
        ]

    def test_unified_comes_last_and_line_by_line(self):
        resources = {
            "unified": {"memory.high": "1000", "io.max": "8:0 rbps=1\n8:16 wbps=2"},
            "memory": {"limit": 5},
        }
        assert files(resources) == [
            ("memory.max", "5"),
            ("memory.high", "1000"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:16 wbps=2"),
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "../memory.max",
            "a/memory.max",
            "..",
            ".",
            "",
            "memory",
            "memory.max\n",
            "memory.max\0",
            ".max",
            "é.max",
        ],
    )
    def test_unified_names_only_files_of_the_group(self, name):
        with pytest.raises(InvalidArgument, match=r"linux.resources: unified.* does not name a file"):
            plan({"unified": {name: "1"}})

    @pytest.mark.parametrize(
        "name", ["cgroup.procs", "cgroup.kill", "cgroup.freeze", "cgroup.subtree_control"]
    )
    def test_unified_refuses_files_that_act(self, name):
        with pytest.raises(InvalidArgument, match=f"unified.{name} = '1' is no limit"):
            plan({"unified": {name: "1"}})

    @pytest.mark.parametrize("value", ["\udc80", "é", "1\0", 5, ["1"]])
    def test_unified_values_are_plain_text(self, value):
        with pytest.raises(InvalidArgument, match="unified"):
            plan({"unified": {"memory.high": value}})

    @pytest.mark.parametrize(
        ("resources", "field"),
        [
            ({"cpu": []}, r"cpu = \[\] must be an object"),
            ({"hugepageLimits": {}}, "hugepageLimits = {} must be a list"),
            ({"hugepageLimits": [5]}, r"hugepageLimits = \[5\] must be a list of objects"),
            ({"hugepageLimits": [{"limit": 1}]}, r"hugepageLimits\[0\].pageSize"),
            ({"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 1}]}, r"hugepageLimits\[0\].pageSize"),
            ({"hugepageLimits": [{"pageSize": "2MB"}]}, r"hugepageLimits\[0\].limit = None is missing"),
            ({"blockIO": {"weight": 5}}, "blockIO.weight = 5 must be from 10 to 1000"),
            ({"blockIO": {"leafWeight": 5}}, "blockIO.leafWeight = 5 has no counterpart"),
            (
                {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "rate": 1}]}},
                r"blockIO.throttleReadBpsDevice\[0\].minor = None is missing",
            ),
            ({"network": {"classID": 5}}, "network.classID = 5 has no counterpart"),
            ({"rdma": {"a b": {"hcaHandles": 1}}}, r"rdma\['a b'\] = "),
            ({"pids": {"limit": 1 << 63}}, "pids.limit"),
        ],
    )
    def test_bad_values_are_named(self, resources, field):
        with pytest.raises(InvalidArgument, match=f"^linux.resources: {field}"):
            plan(resources)

    def test_devices_and_unknown_fields_are_somebody_elses(self):
        assert plan({"devices": [{"allow": False}], "somethingNew": 1}) == ()

    def test_errors_are_short_and_on_one_line(self):
        with pytest.raises(InvalidArgument) as caught:
            plan({"unified": {"x\n" * 1000: "y" * 10000}})
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)


def test_needed_controllers():
    writes = plan(
        {
            "cpu": {"quota": 5000, "cpus": "0"},
            "memory": {"limit": 1},
            "pids": {"limit": -1},
            "unified": {"cgroup.max.depth": "3", "io.latency": "8:0 target=1"},
        }
    )
    assert controllers_of(writes) == {"cpu", "cpuset", "memory", "io"}


def test_writes_describe_themselves():
    assert Write("memory.max", "5", "memory.limit").describe() == "memory.max = 5 (memory.limit)"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "cpu": ["shares", "quota", "period", "burst", "cpus", "mems", "idle", "realtimeRuntime"],
    "memory": ["limit", "swap", "reservation", "kernel", "swappiness", "checkBeforeUpdate"],
    "pids": ["limit"],
    "blockIO": ["weight", "weightDevice", "throttleReadBpsDevice"],
    "unified": ["memory.high", "x"],
    "rdma": ["mlx5_0"],
    "network": ["classID"],
}
hostile = st.fixed_dictionaries(
    {},
    optional={
        section: json_values
        | st.dictionaries(st.sampled_from(names) | st.text(max_size=5), json_values, max_size=4)
        for section, names in FIELDS.items()
    }
    | {"hugepageLimits": json_values | st.lists(json_values, max_size=2)},
)


@given(hostile)
def test_whatever_a_bundle_says_is_a_plan_or_an_invalid_argument(resources):
    with contextlib.suppress(InvalidArgument):
        for write in plan(json.loads(json.dumps(resources))):
            assert "/" not in write.file
            assert write.file.partition(".")[2]
            assert not {"\n", "\0"} & set(write.value)
            write.value.encode("ascii")
