"""Facts about what the doctor finds, with control groups made of ordinary files."""

import http.server
import threading
import time

import psutil
import pytest

import ftkit.doctor
from ftkit import doctor
from ftkit.doctor import limits

MB = 1_000_000


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")


def version_2(root, path="/", **files):
    write(root, {"proc/self/cgroup": f"0::{path}"})
    write(root, {f"sys/fs/cgroup/{path}/{name.replace('__', '.')}": text for name, text in files.items()})


def version_1(root, controller, path="/", **files):
    write(root, {"proc/self/cgroup": f"7:{controller}:{path}\n3:cpuset:/"})
    write(root, {f"sys/fs/cgroup/{controller}/{path}/{name.replace('__', '.')}": text for name, text in files.items()})


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(limits, "n_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("text", "quota", "threads"),
    [("200000 100000", 2, 2), ("150000 100000", 1.5, 1), ("50000 100000", 0.5, 1), ("max 100000", float("inf"), 8)],
)
def test_the_cpu_quota_of_version_2_sets_the_threads(tmp_path, text, quota, threads):
    version_2(tmp_path, cpu__max=text)
    assert doctor.cpu_quota(tmp_path) == quota
    assert doctor.n_threads(tmp_path) == threads


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", float("inf"))])
@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
def test_the_cpu_quota_of_version_1(tmp_path, controller, quota, expected):
    version_1(tmp_path, controller, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert doctor.cpu_quota(tmp_path) == expected


def test_no_control_groups_means_no_limit(tmp_path):
    assert doctor.cpu_quota(tmp_path) == float("inf")
    assert doctor.n_threads(tmp_path) == 8
    assert doctor.memory_bytes(tmp_path)[0] == psutil.virtual_memory().total


def test_a_limit_on_a_group_above_holds(tmp_path):
    version_2(tmp_path, "/pod/container", cpu__max="max 100000", memory__max="max")
    write(tmp_path, {"sys/fs/cgroup/pod/cpu.max": "200000 100000", "sys/fs/cgroup/pod/memory.max": str(500 * MB)})
    assert doctor.n_threads(tmp_path) == 2
    assert doctor.memory_bytes(tmp_path)[0] == 500 * MB


def test_the_hosts_path_inside_a_container_still_finds_the_limit(tmp_path):
    write(tmp_path, {"proc/self/cgroup": "4:memory:/docker/0123abcd"})
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(700 * MB)})
    assert doctor.memory_bytes(tmp_path)[0] == 700 * MB


def test_a_wish_for_fewer_threads_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert doctor.n_threads(tmp_path) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert doctor.n_threads(tmp_path) == 8


def test_memory_of_version_2_counts_the_file_cache_as_free(tmp_path):
    version_2(
        tmp_path, memory__max=str(300 * MB), memory__current=str(200 * MB),
        memory__stat=f"anon 5\ninactive_file {150 * MB}",
    )  # fmt: skip
    assert doctor.memory_bytes(tmp_path)[0] == 300 * MB
    assert doctor.memory_bytes(tmp_path)[1] == 250 * MB


def test_memory_of_version_1(tmp_path):
    version_1(
        tmp_path, "memory", memory__limit_in_bytes=str(300 * MB), memory__usage_in_bytes=str(280 * MB),
        memory__stat=f"total_inactive_file {30 * MB}",
    )  # fmt: skip
    assert doctor.memory_bytes(tmp_path)[0] == 300 * MB
    assert doctor.memory_bytes(tmp_path)[1] == 50 * MB


def test_the_number_that_means_unlimited_is_not_a_limit(tmp_path):
    version_1(tmp_path, "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="5")
    assert doctor.memory_bytes(tmp_path)[0] == psutil.virtual_memory().total


def test_held_memory_grows_with_what_is_held_and_the_peak_stays():
    before = doctor.rss_bytes()
    held = bytearray(b"x") * (60 * MB)
    assert doctor.rss_bytes() - before > 50 * MB
    peak = doctor.peak_rss_bytes()
    assert peak >= before + 50 * MB
    del held
    assert doctor.peak_rss_bytes() > peak - 5 * MB  # the kernel counts in batches


@pytest.fixture
def one_thread():
    """Torch on one thread, for as long as a test lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_speed_is_measured_in_a_few_seconds_at_most_and_leaves_torch_as_it_was(one_thread):
    import torch

    state = torch.get_rng_state()
    began = time.perf_counter()
    float32, bfloat16, speedup = doctor.measured_speed.__wrapped__()
    assert time.perf_counter() - began < 3
    assert min(float32, bfloat16) > 1e8
    assert speedup > 0
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def healthy(monkeypatch):
    """A machine without findings, whose properties a test can then make worse."""
    for name, value in {
        "measured_speed": (1e11, 1e11, 1.0),
        "memory_bytes": (8_000 * MB, 4_000 * MB),
        "n_cores": 4,
        "n_threads": 4,
        "cpu_quota": float("inf"),
        "_disk_free_bytes": 9_000 * MB,
        "_gpu": (None, None),
    }.items():
        monkeypatch.setattr(doctor, name, lambda value=value: value)
    monkeypatch.setattr(doctor.constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


def test_a_healthy_machine_has_no_findings_and_says_so_in_a_sentence(healthy):
    machine = doctor.check_machine()
    assert machine.findings == ()
    assert machine.offline is None
    assert machine.summary() == (
        "This machine trains with 4 threads, 4.0 GB of 8.0 GB memory free, fastest in float32."
    )
    assert machine.versions["python"].startswith("3.")
    assert "<table>" in machine._repr_html_()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("memory_bytes", (1_900 * MB, 900 * MB), "FT040"),
        ("_gpu", ("CUDA", None), "FT041"),
        ("_disk_free_bytes", 900 * MB, "FT042"),
        ("cpu_quota", 1.5, "FT043"),
    ],
)
def test_each_shortage_is_a_finding(healthy, name, value, code):
    healthy.setattr(doctor, name, lambda: value)
    machine = doctor.check_machine()
    assert [f.code for f in machine.findings] == [code]
    assert machine.tables()[0][0] == "Findings"


def test_a_gpu_that_can_be_used_is_no_finding(healthy):
    healthy.setattr(doctor, "_gpu", lambda: ("CUDA", "Some GPU"))
    assert doctor.check_machine().findings == ()
    assert doctor.check_machine().gpu == "Some GPU"


@pytest.mark.parametrize(("speedup", "dtype"), [(0.8, "float32"), (1.19, "float32"), (1.21, "bfloat16")])
def test_bfloat16_has_to_win_by_a_fifth(healthy, speedup, dtype):
    healthy.setattr(doctor, "measured_speed", lambda: (1e11, 9e11, speedup))
    assert doctor.check_machine().fastest_dtype == dtype


def test_told_to_be_offline_nobody_asks_the_hub(healthy):
    healthy.setattr(doctor.constants, "HF_HUB_OFFLINE", True)
    healthy.setattr(doctor, "_ask_hub", lambda *given: pytest.fail("the Hub was asked"))
    assert doctor.check_machine(network=True).offline is True


def test_a_hub_that_never_answers_is_given_up_on(healthy):
    healthy.setattr(doctor, "_ask_hub", lambda answered, limit_s: time.sleep(30))
    began = time.perf_counter()
    assert doctor._is_offline(limit_s=0.1)
    assert time.perf_counter() - began < 2


def test_a_hub_that_answers_is_in_reach(healthy):
    healthy.setattr(doctor, "_ask_hub", lambda answered, limit_s: answered.set())
    assert doctor.check_machine(network=True).offline is False


@pytest.mark.parametrize(("status", "offline"), [(200, False), (403, True)])
def test_the_hub_is_asked_by_its_own_client(healthy, status, offline):
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *given):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hub) as server:
        healthy.setattr(doctor.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert doctor._is_offline(limit_s=5 if not offline else 0.5) is offline


def test_the_fastest_dtype_is_measured_once_and_remembered(monkeypatch, tmp_path):
    monkeypatch.undo()  # the dtype that all other tests are given
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))
    for speedup, expected in ((1.5, "bfloat16"), (1.0, "bfloat16")):  # a second, noisier measurement changes nothing
        monkeypatch.setattr("ftkit.doctor.measured_speed", lambda speedup=speedup: (1e9, 1e9, speedup))
        assert ftkit.doctor.fastest_dtype() == expected
    assert ftkit.doctor.check_machine().fastest_dtype == ftkit.doctor.fastest_dtype() == "float32", (
        "but the doctor asks anew"
    )


def test_where_nothing_can_be_remembered_it_is_measured_each_time(monkeypatch, tmp_path):
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file"))
    for speedup, expected in ((1.5, "bfloat16"), (1.0, "float32")):
        monkeypatch.setattr("ftkit.doctor.measured_speed", lambda speedup=speedup: (1e9, 1e9, speedup))
        assert ftkit.doctor.fastest_dtype() == expected
