"""Stores: whole files or none, and keys that stay inside."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows import objects
from flows.errors import ConfigError, StoreError, UnreadableError
from flows.storage import LocalStore, Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a local store, and one of a real S3 server."""
    if request.param == "local":
        return LocalStore(tmp_path / "root")
    return Store.of(request.getfixturevalue("s3") + "/root")


@pytest.fixture
def other_user(tmp_path: Path) -> Iterator[None]:
    """Write a file that nobody may read, and give up root's rights for the test."""
    (tmp_path / "a").touch(mode=0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield
    if is_root:
        os.seteuid(0)


def test_bytes_come_back_as_they_were_written(store: Store) -> None:
    """Folders of a key are made on the way; a second write replaces the first."""
    store.write_bytes("manifests/dt=2013-07-06.json", b"one")
    store.write_bytes("manifests/dt=2013-07-06.json", b"two")

    assert store.exists("manifests/dt=2013-07-06.json")
    assert store.read_bytes("manifests/dt=2013-07-06.json") == b"two"


def test_files_are_listed_in_order_of_their_keys(store: Store) -> None:
    """Folders are searched to their ends; the suffix may be in capitals."""
    for key in ("b/2.parquet", "a.parquet", "b/c/1.PARQUET", "b/notes.txt"):
        store.write_bytes(key, b"xyz")

    listed = store.list(suffix=".parquet")

    assert [one.key for one in listed] == ["a.parquet", "b/2.parquet", "b/c/1.PARQUET"]
    assert [one.key for one in store.list("b")] == ["b/2.parquet", "b/c/1.PARQUET", "b/notes.txt"]
    assert {one.size for one in listed} == {3}
    assert listed[0].path == store.uri("a.parquet")
    assert listed[0].modified in (0.0, pytest.approx(time.time(), abs=60))


def test_what_is_not_meant_for_readers_is_passed_over(store: Store) -> None:
    """Names that start with _ or . are bookkeeping of Spark, of us, and of others."""
    for key in (
        "_SUCCESS",
        "_temporary/1.parquet",
        ".hidden/2.parquet",
        "dt=1/.3.parquet.crc",
        "dt=1/4.parquet",
    ):
        store.write_bytes(key, b"")

    assert [one.key for one in store.list()] == ["dt=1/4.parquet"]


def test_a_missing_folder_has_no_files(store: Store) -> None:
    """Results that were never written are no error."""
    assert store.list("flags") == []
    assert not store.exists("flags/part-0.parquet")


def test_a_file_can_be_deleted_twice(store: Store) -> None:
    """The second time there is nothing left to do."""
    store.write_bytes("a", b"")
    store.delete("a")
    store.delete("a")

    assert not store.exists("a")


def test_a_staged_file_appears_when_it_is_committed(store: Store) -> None:
    """Until then no reader sees it; afterwards the stage is gone."""
    with store.stage() as folder:
        (folder / "part-0.parquet").write_bytes(b"whole")
        assert store.list() == []
        store.commit(folder / "part-0.parquet", "flags/dt=2013-07-06/part-0.parquet")

    assert store.read_bytes("flags/dt=2013-07-06/part-0.parquet") == b"whole"
    assert not folder.exists()


def test_an_interrupted_stage_leaves_nothing(store: Store) -> None:
    """An error between staging and commit leaves the old file and no new one."""
    store.write_bytes("flags", b"old")
    folders = []

    def interrupted() -> None:
        with store.stage() as folder:
            folders.append(folder)
            (folder / "part").write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.read_bytes("flags") == b"old"
    assert not folders[0].exists()


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "", "a\0b", "."])
def test_a_key_cannot_leave_the_store(store: Store, key: str) -> None:
    """Whatever a name comes from, it stays below the root."""
    with pytest.raises(StoreError, match="a name inside of the folder was required"):
        store.write_bytes(key, b"")


def test_dots_within_a_name_are_no_way_out(store: Store) -> None:
    """A Hive value of two dots is a name like others."""
    store.write_bytes("city=../p.parquet", b"x")

    assert [one.key for one in store.list()] == ["city=../p.parquet"]


def test_a_file_is_swapped_only_as_long_as_it_is_as_it_was_seen(store: Store) -> None:
    """The second of two writers who saw the same is refused; the file is that of the first."""
    assert store.peek("lease") is None
    first = store.swap("lease", b"one", None)
    assert store.swap("lease", b"two", None) is None
    second = store.swap("lease", b"two", first)

    assert store.swap("lease", b"three", first) is None
    assert store.peek("lease") == second
    assert store.read_bytes("lease") == b"two"


def test_of_many_who_swap_at_once_each_in_turn_succeeds(store: Store) -> None:
    """Four threads count to 10 each: no step is lost."""

    def count(name: str) -> None:
        for _ in range(10):
            while True:
                seen = store.peek("counter")
                number = int(seen.data[1:]) if seen else 0
                if store.swap("counter", f"{name}{number + 1}".encode(), seen):
                    break

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(count, name) for name in "abcd"]:
            future.result()

    assert store.read_bytes("counter")[1:] == b"40"


def test_a_file_is_moved_in_one_step_once(store: Store) -> None:
    """What was there is replaced; out of a folder that was discarded nothing can be moved any more."""
    store.write_bytes("flags/part", b"old")
    store.write_bytes(".commits/1/flags/part", b"new")

    store.move(".commits/1/flags/part", "flags/part")
    store.discard(".commits/1")
    store.discard(".commits/1")

    assert store.read_bytes("flags/part") == b"new"
    assert store.list(".commits") == []
    with pytest.raises(UnreadableError):
        store.move(".commits/1/flags/part", "flags/part")


def test_a_file_is_withdrawn_as_long_as_the_commit_lasts(store: Store) -> None:
    """A run that was taken over finds its folder gone, and removes nothing."""
    for key in ("quarantine/a", "quarantine/b", ".commits/1/manifest"):
        store.write_bytes(key, b"")
    store.withdraw("quarantine/a", ".commits/1")
    store.discard(".commits/1")

    with pytest.raises(UnreadableError):
        store.withdraw("quarantine/b", ".commits/1")
    assert [one.key for one in store.list()] == ["quarantine/b"]


def test_names_of_folders_are_taken_as_they_are(store: Store) -> None:
    """Hive encodes values: the URI of a file with %20 in its name leads to that file; so do # and ?."""
    names = ["region=a%20b/part é.parquet", "region=a#b/dt=1/1#2.parquet", "region=a?b/dt=1/1?2.parquet"]
    for name in names:
        store.write_bytes(name, name.encode())

    for found in store.list():
        folder, _, name = found.path.rpartition("/")
        assert Store.of(folder).read_bytes(name) == found.key.encode()
        assert [one.key for one in Store.of(folder).list()] == [name]
    assert sorted(one.key for one in store.list()) == sorted(names)


def test_a_store_that_is_away_is_no_missing_file(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try may help with the one, not with the other."""
    with pytest.raises(UnreadableError):
        Store.of(s3).open_input("nothing")

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError) as caught:
        Store.of(s3).write_bytes("a", b"")
    assert not isinstance(caught.value, UnreadableError)
    assert str(caught.value).startswith(f"cannot write {s3}/a: ")


@pytest.mark.parametrize("user", ["AKIA123:secret", "secret", "AKIA123:secret/of?it"])
def test_credentials_in_an_address_are_refused_and_not_repeated(user: str) -> None:
    """They belong into the environment: a pipeline file is shared."""
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as caught:
        Store.of(f"s3://{user}@bucket/results")
    assert "secret" not in str(caught.value).lower().replace("aws_secret_access_key", "")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/data?endpoint_override=http://minio:9000&region=us-east-1",
        "s3://bucket?region=us-east-1",
        "gs://bucket/data?endpoint_override=localhost:9000",
        "s3://bucket/data?secret_key=us-east-1",
    ],
)
def test_settings_in_an_address_are_refused_and_not_left_out(uri: str) -> None:
    """They would hold when files are listed, and not when they are opened: those are of another server."""
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL and AWS_REGION") as caught:
        Store.of(uri)
    assert uri.partition("?")[0] in str(caught.value)
    assert "us-east-1" not in str(caught.value)


def test_a_bucket_has_no_number_sign_in_its_name() -> None:
    with pytest.raises(ConfigError, match=r"a bucket's name without \? and # was required, however 'run#1'"):
        Store.of("s3://run#1/data")


def test_a_large_file_is_read_in_ranges_and_written_in_parts(s3: str, tmp_path: Path) -> None:
    """Neither way the whole of it is asked for at once."""
    store, content = Store.of(s3), os.urandom(1024) * (20 * 1024)
    (tmp_path / "large").write_bytes(content)

    store.commit(tmp_path / "large", "large")

    with store.open_input("large") as source:
        source.seek(15_000_000)
        assert source.read(10) == content[15_000_000:15_000_010]
        assert source.size() == len(content)


def test_what_is_too_large_to_be_copied_at_once_is_streamed(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 copies up to 5 GiB by itself."""
    monkeypatch.setattr(objects, "_COPY_BYTES", 1_000)
    store = Store.of(s3)
    store.write_bytes("source", b"x" * 100_000)

    store.move("source", "target")

    assert store.read_bytes("target") == b"x" * 100_000


def test_reading_what_is_not_there_is_one_sentence(store: Store) -> None:
    """The sentence names the place and the reason."""
    with pytest.raises(
        StoreError, match=r"cannot read .*root/nothing: .*; check the path, its rights and space"
    ):
        store.read_bytes("nothing")


def test_a_uri_finds_its_store(tmp_path: Path) -> None:
    """Paths and file:// are local; others go to Arrow, which knows gs:// and s3:// and no ftp://."""
    assert Store.of(tmp_path).uri("a") == str(tmp_path / "a")
    assert Store.of(f"file://{tmp_path}").uri("a") == str(tmp_path / "a")
    assert Store.of("gs://bucket/folder").uri("a/b") == "gs://bucket/folder/a/b"
    with pytest.raises(StoreError, match="cannot open ftp://host: Unrecognized filesystem type"):
        Store.of("ftp://host/x")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    """A loop ends; a link to a file is a file; a link to nothing is listed, so that reading can say so."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"x")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self.parquet").symlink_to(tmp_path / "data" / "self.parquet")
    (tmp_path / "data" / "dangling.parquet").symlink_to(tmp_path / "gone")
    (tmp_path / "data" / "link.parquet").symlink_to(tmp_path / "data" / "a.parquet")
    store = LocalStore(tmp_path / "data")

    assert [(one.key, one.size) for one in store.list(suffix=".parquet")] == [
        ("a.parquet", 1),
        ("dangling.parquet", 0),
        ("link.parquet", 1),
        ("self.parquet", 0),
    ]
    assert store.read_bytes("link.parquet") == b"x"
    with pytest.raises(StoreError, match="No such file or directory"):
        store.read_bytes("dangling.parquet")
    with pytest.raises(StoreError, match="Too many levels of symbolic links"):
        store.read_bytes("self.parquet")


def test_a_folder_that_is_renamed_away_while_it_is_listed_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of other nights come and go all the while."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "stays").touch()
    listed = os.scandir

    def too_late(path: Path) -> Any:
        if path == tmp_path / "a":
            path.rmdir()
        return listed(path)

    monkeypatch.setattr(os, "scandir", too_late)

    assert [one.key for one in LocalStore(tmp_path).list()] == ["b/stays"]
    assert not (tmp_path / "a").exists()


def test_a_pipe_or_socket_is_never_opened(tmp_path: Path) -> None:
    """Opening one would wait for a writer for ever."""
    os.mkfifo(tmp_path / "fifo.parquet")
    store = LocalStore(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.parquet"))

        with pytest.raises(StoreError, match="it is a named pipe; replace it"):
            store.read_bytes("fifo.parquet")
        with pytest.raises(StoreError, match="it is a socket; replace it"):
            store.read_bytes("s.parquet")
    with pytest.raises(StoreError, match="it is a folder; replace it"):
        LocalStore(tmp_path.parent).read_bytes(tmp_path.name)


@pytest.mark.usefixtures("other_user")
def test_a_place_without_rights_is_one_sentence() -> None:
    """Neither root's home nor a file below a file can be written."""
    with pytest.raises(StoreError, match="cannot write /proc/nowhere"):
        LocalStore(Path("/proc/nowhere")).write_bytes("a", b"")
    with pytest.raises(StoreError, match=r"cannot write .*: Not a directory"):
        LocalStore(Path(__file__) / "below").write_bytes("a", b"")


def test_an_unreadable_file_is_one_sentence(tmp_path: Path, other_user: None) -> None:
    """Rights are told from other troubles."""
    with pytest.raises(StoreError, match=rf"cannot read {tmp_path}/a: Permission denied; check the path"):
        LocalStore(tmp_path).read_bytes("a")


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """While a writer replaces a file over and over, each read is one of its versions, whole."""
    store = LocalStore(tmp_path)
    versions = {bytes([digit]) * 200_000 for digit in b"0123456789"}
    store.write_bytes("a", b"0" * 200_000)
    code = (
        "import sys; from pathlib import Path; from flows.storage import LocalStore\n"
        "store = LocalStore(Path(sys.argv[1]))\n"
        "for turn in range(300): store.write_bytes('a', b'%d' % (turn % 10) * 200_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path]) as writer:
        seen = set()
        while writer.poll() is None:
            seen.add(store.read_bytes("a"))

    assert writer.returncode == 0
    assert seen <= versions
    assert len(seen) > 1


def test_stages_of_a_label_are_cleared(store: Store) -> None:
    """What a killed run has left of one night goes, that of another night stays."""
    with store.stage("dt=2013-07-06") as mine, store.stage("dt=2013-07-07") as other:
        store.clear_stages("dt=2013-07-06")

        assert (mine.exists(), other.exists()) == (False, True)
        mine.mkdir()  # as its owner expects


def test_stages_of_killed_runs_are_swept(tmp_path: Path) -> None:
    """What is older than a day goes; a stage in use stays."""
    stale, fresh = tmp_path / ".staging" / "stale", tmp_path / ".staging" / "fresh"
    for folder in (stale, fresh):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    os.utime(stale, (0, 0))

    with LocalStore(tmp_path).stage():
        assert not stale.exists()
        assert fresh.exists()


def test_a_stage_in_use_stays_though_the_clock_jumps(tmp_path: Path) -> None:
    """One that looks old, and that nobody holds, is removed by the next."""
    store = LocalStore(tmp_path)
    left = tmp_path / ".staging" / "left"
    left.mkdir(parents=True)
    with store.stage() as held:
        for folder in (held, left):
            os.utime(folder, (0, 0))
        with store.stage():
            assert held.is_dir()
            assert not left.exists()
