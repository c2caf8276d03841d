"""Downloads from a real server that cuts, hangs, changes its mind and serves the wrong thing."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from tests.fileserver import FileServer, serve

from stmulnet import download as module
from stmulnet.download import download
from stmulnet.errors import CheckpointError, DownloadError
from stmulnet.files import locked

NAME = "folder/some=file.bin"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "WAIT_SEC", 0.001)
    with serve() as plan:
        yield plan


@pytest.fixture
def content(server: FileServer, rng: np.random.Generator) -> bytes:
    server.files[NAME] = rng.bytes(3_000_001)
    return server.files[NAME]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


def accept(_: object) -> None:
    """Every file is right."""


def get(server: FileServer, out: Path) -> None:
    download(f"{server.address}/{NAME}", out, check_head=accept, check=accept)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_with_nothing_beside_it(server: FileServer, content: bytes, out: Path) -> None:
    get(server, out)
    assert out.read_bytes() == content
    assert names(out.parent) == ["file.bin"]
    (request,) = server.requests
    assert request[0] == NAME
    assert request[1]["User-Agent"].startswith("stmulnet/")


def test_progress_is_told_once(
    server: FileServer, content: bytes, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(server, out)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["file.bin: 3/3 MB"]


@pytest.mark.parametrize("version", [{"ETag": '"a"'}, {"Last-Modified": "Wed, 26 Jul 2017 10:00:00 GMT"}])
def test_a_cut_connection_is_resumed_to_the_exact_bytes(
    version: dict[str, str], server: FileServer, content: bytes, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.headers, server.cuts = version, [1_500_000, 700_001]
    get(server, out)
    assert out.read_bytes() == content
    assert server.asked_for() == [None, "bytes=1500000-", "bytes=2200001-"]
    assert server.requests[1][1]["If-Range"] in version.values()
    assert "the connection was cut after 1.5 MB; trying again" in capsys.readouterr().err


def test_a_later_call_goes_on_where_the_first_gave_up(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(
        DownloadError, match=r"cut.*, 4 times; the first 2\.0 MB are kept in .*file\.bin\.part, the same"
    ):
        get(server, out)
    assert names(out.parent) == ["file.bin.part", "file.bin.part.json"]
    server.requests.clear()
    get(server, out)
    assert server.asked_for() == ["bytes=2000000-"]
    assert out.read_bytes() == content
    assert names(out.parent) == ["file.bin"]


def test_progress_renews_the_retries(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [300_000] * 9
    get(server, out)
    assert len(server.requests) == 10
    assert out.read_bytes() == content


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_changed_in_between_is_not_glued_together(
    heeds_if_range: bool, server: FileServer, content: bytes, out: Path
) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    server.files[NAME], server.headers = content[::-1], {"ETag": '"two"'}
    server.if_range = heeds_if_range
    get(server, out)
    assert out.read_bytes() == content[::-1]


def test_a_changed_file_of_another_length_is_noticed_without_a_version_in_the_answer(
    server: FileServer, content: bytes, out: Path
) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    server.files[NAME], server.headers, server.if_range = content[::-1] + b"more", {}, False
    get(server, out)
    assert out.read_bytes() == content[::-1] + b"more"


def test_a_file_that_became_shorter_than_what_is_kept(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    server.files[NAME], server.if_range = content[:1000], False
    get(server, out)
    assert out.read_bytes() == content[:1000]


def test_a_server_without_ranges_starts_again(
    server: FileServer, content: bytes, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.ranges, server.cuts = False, [2_000_000]
    get(server, out)
    assert out.read_bytes() == content
    assert "starting again" in capsys.readouterr().err


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_version_nothing_is_resumed_or_kept(
    headers: dict[str, str], server: FileServer, content: bytes, out: Path
) -> None:
    server.headers, server.cuts = headers, [2_000_000] * 4
    with pytest.raises(DownloadError, match=r"cut, 4 times$"):
        get(server, out)
    assert names(out.parent) == []
    get(server, out)
    assert out.read_bytes() == content
    assert set(server.asked_for()) == {None}


def test_a_part_of_another_address_is_not_used(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    server.files["other"] = content[::-1]
    download(f"{server.address}/other", out, check_head=accept, check=accept)
    assert out.read_bytes() == content[::-1]


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"address": 1, "version": 2, "bytes": "3"}'])
def test_a_damaged_record_is_worth_nothing(record: str, server: FileServer, content: bytes, out: Path) -> None:
    Path(f"{out}.part").write_bytes(b"x" * 1000)
    Path(f"{out}.part.json").write_text(record)
    get(server, out)
    assert out.read_bytes() == content


def test_a_complete_part_is_not_fetched_again(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    Path(f"{out}.part").write_bytes(content)
    server.requests.clear()
    get(server, out)
    assert server.requests == []
    assert out.read_bytes() == content


@pytest.mark.parametrize("cut", [None, 1_000_000])
def test_chunks_without_a_length(cut: int | None, server: FileServer, content: bytes, out: Path) -> None:
    server.chunked, server.cuts = True, [cut]
    get(server, out)
    assert out.read_bytes() == content


@pytest.mark.parametrize(("status", "problem"), [(404, "404 Not Found"), (403, "403 Forbidden"), (401, "401 Unauth")])
def test_refusals_are_final(status: int, problem: str, server: FileServer, content: bytes, out: Path) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=rf"some=file\.bin: the server answers {problem}"):
        get(server, out)
    assert len(server.requests) == 1
    assert names(out.parent) == []


def test_server_errors_are_tried_again(server: FileServer, content: bytes, out: Path) -> None:
    server.statuses = [500, 503]
    get(server, out)
    assert out.read_bytes() == content
    server.statuses = [500, 502, 503, 504]
    with pytest.raises(DownloadError, match="answers 504 Gateway Timeout, 4 times"):
        get(server, out)


def test_a_server_that_falls_silent(
    server: FileServer, content: bytes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SEC", 0.1)
    monkeypatch.setattr(module, "RETRIES", 0)
    server.hang = True
    with pytest.raises(DownloadError, match=r"no answer within 0\.1 s, 1 times; the first 1\.5 MB are kept"):
        get(server, out)
    server.hang = False
    get(server, out)
    assert out.read_bytes() == content


def test_a_server_that_never_answers(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SEC", 0.1)
    monkeypatch.setattr(module, "RETRIES", 0)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match=r"no answer within 0\.1 s"):
            download(address, out, check_head=accept, check=accept)


def test_nobody_listens_or_no_such_host(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DownloadError, match=r"/x: cannot be reached \(Connection refused\)"):
        download(f"http://127.0.0.1:{port}/x", out, check_head=accept, check=accept)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"http://gone\.example/x: cannot be reached \(Name or service not known\)"):
        download("http://gone.example/x", out, check_head=accept, check=accept)
    assert names(out.parent) == []


def test_a_host_that_goes_away_halfway_is_called_again(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [2_000_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(server, out)
    opened = module._opener()

    class Flaky:
        calls = 0

        def open(self, *arguments: object, **options: object) -> object:
            Flaky.calls += 1
            if Flaky.calls == 1:
                raise URLError(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
            return opened.open(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_opener", Flaky)
        get(server, out)
    assert Flaky.calls == 2
    assert out.read_bytes() == content


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_lead_to_http_only(place: str, server: FileServer, out: Path) -> None:
    server.redirect = place
    with pytest.raises(DownloadError, match="answers 302 Found"):
        get(server, out)


def test_redirects_are_followed(server: FileServer, content: bytes, out: Path) -> None:
    server.cuts = [1_000_000]
    with serve() as first:
        first.redirect = f"{server.address}/{NAME}"
        get(first, out)
    assert out.read_bytes() == content
    assert server.asked_for() == [None, "bytes=1000000-"]


def test_a_bad_address(out: Path) -> None:
    with pytest.raises(DownloadError, match="not an address"):
        download("http://127.0.0.1/a b", out, check_head=accept, check=accept)


def test_what_is_refused_by_its_head_is_not_fetched_to_its_end(server: FileServer, content: bytes, out: Path) -> None:
    seen: list[bytes] = []

    def refuse(head: bytes) -> None:
        seen.append(head)
        raise CheckpointError("wrong")

    with pytest.raises(CheckpointError, match="wrong"):
        download(f"{server.address}/{NAME}", out, check_head=refuse, check=accept)
    assert seen == [content[:1024]]
    assert names(out.parent) == []


def test_a_head_cut_short_is_not_judged(server: FileServer, content: bytes, out: Path) -> None:
    seen: list[bytes] = []
    server.cuts = [100]
    download(f"{server.address}/{NAME}", out, check_head=seen.append, check=accept)
    assert seen == [content[:1024]]


def test_what_is_refused_when_complete_is_removed(server: FileServer, content: bytes, out: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == content
        raise CheckpointError("wrong")

    with pytest.raises(CheckpointError, match="wrong"):
        download(f"{server.address}/{NAME}", out, check_head=accept, check=refuse)
    assert names(out.parent) == []


def test_an_interruption_keeps_what_has_arrived(
    server: FileServer, content: bytes, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.cuts = [1_500_000]
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(server, out)
    assert "interrupted; the first 1.5 MB are kept in" in capsys.readouterr().err
    assert names(out.parent) == ["file.bin.part", "file.bin.part.json"]
    get(server, out)
    assert out.read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_two_processes_do_not_write_one_file(server: FileServer, content: bytes, out: Path) -> None:
    part = Path(f"{out}.part")
    part.touch()
    with locked(part, None), pytest.raises(DownloadError, match="another process is fetching this file; wait"):
        get(server, out)


def test_a_full_disk_is_not_taken_for_a_cut_connection(
    server: FileServer, content: bytes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_append", full)
    with pytest.raises(OSError, match="No space left"):
        get(server, out)
    assert len(server.requests) == 1
