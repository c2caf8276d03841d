"""Extraction divided among machines."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stmulnet.errors import ConfigError, DatasetError
from stmulnet.video.extract import ExtractSummary, extract_videos
from stmulnet.video.manifest import load_manifests
from stmulnet.video.shard import Shard

NUM_VIDEOS = 9


def run(videos: Path, out: Path, **options: Any) -> ExtractSummary:
    return extract_videos(videos, out, **{"short_side": 32, "workers": 1, "flow_backend": "dis", **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def videos(tmp_path: Path, encode: Callable[..., Path]) -> Path:
    for index in range(NUM_VIDEOS):
        encode(f"videos/Class{index % 2}/v{index}.mp4", 3 + index)
    return tmp_path / "videos"


@pytest.fixture
def fresh(videos: Path, tmp_path: Path) -> dict[str, bytes]:
    run(videos, tmp_path / "fresh")
    return contents(tmp_path / "fresh")


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "1.0/4", " 1/4", "a/b"])
def test_bad_shards(text: str, videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shard must be i/n with i from 1 to n, e\.g\. 2/8 .* got "):
        run(videos, tmp_path / "out", shard=text)
    assert not (tmp_path / "out").exists()


def test_every_name_belongs_to_one_shard_and_shards_are_alike() -> None:
    names = [f"v_Class{c}_g{g:02d}_c01" for c in range(101) for g in range(1, 26)]
    sizes = []
    for index in range(1, 9):
        sizes.append(sum(Shard(index, 8).owns(name) for name in names))
    assert sum(sizes) == len(names)
    assert all(abs(size - len(names) / 8) < 60 for size in sizes)
    assert Shard(1, 1).owns("any")


def test_the_division_is_the_same_everywhere() -> None:
    """Machines with other versions of this package must come to the same one."""
    owner = {
        name: next(i for i in range(1, 5) if Shard(i, 4).owns(name))
        for name in ("v_Biking_g01_c01", "v_YoYo_g25_c05", "größe")
    }
    assert owner == {"v_Biking_g01_c01": 3, "v_YoYo_g25_c05": 2, "größe": 4}


def test_shards_in_one_folder(videos: Path, tmp_path: Path, fresh: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    summaries = [run(videos, out, shard=f"{index}/3") for index in (2, 3, 1)]
    assert sum(summary.done for summary in summaries) == NUM_VIDEOS
    assert min(summary.done for summary in summaries) > 0
    assert "shard 2/3, " in str(summaries[0])
    assert f"of {NUM_VIDEOS} videos; when all shards are done and lie in one folder, the same command" in str(
        summaries[0]
    )
    names = sorted(path.name for path in out.iterdir())
    assert names == ["flows", "images", *(f"manifest-shard-{index}-of-3.json" for index in (1, 2, 3))]
    joined = load_manifests(out)
    assert joined is not None
    assert len(joined.videos) == NUM_VIDEOS
    last = run(videos, out)
    assert (last.done, last.skipped) == (0, NUM_VIDEOS)
    assert contents(out) == fresh


def test_shards_in_several_folders(videos: Path, tmp_path: Path, fresh: dict[str, bytes]) -> None:
    for index in (1, 2):
        run(videos, tmp_path / f"machine{index}", shard=f"{index}/2")
        shutil.copytree(tmp_path / f"machine{index}", tmp_path / "out", dirs_exist_ok=True)
    assert run(videos, tmp_path / "out").skipped == NUM_VIDEOS
    assert contents(tmp_path / "out") == fresh


def test_what_a_shard_has_not_done_is_done_at_the_end(videos: Path, tmp_path: Path, fresh: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    done = run(videos, out, shard="1/2").done
    (out / ".partial" / "shard-2-of-2" / "work" / "v1-77" / "images").mkdir(parents=True)  # of a killed machine
    assert run(videos, out).done == NUM_VIDEOS - done
    assert contents(out) == fresh


def test_the_journal_of_a_killed_shard_counts(videos: Path, tmp_path: Path, fresh: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    done = run(videos, out, shard="1/2").done
    path = out / "manifest-shard-1-of-2.json"
    manifest = json.loads(path.read_text())
    journal = out / ".partial" / "shard-1-of-2" / "finished.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in manifest["videos"]))
    path.write_text(json.dumps({**manifest, "videos": []}))
    again = run(videos, out, shard="1/2")
    assert (again.done, again.skipped) == (0, done)
    assert run(videos, out).done == NUM_VIDEOS - done
    assert contents(out) == fresh


def test_a_shard_goes_on_and_another_division_takes_over(
    videos: Path, tmp_path: Path, fresh: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = run(videos, out, shard="1/2")
    assert run(videos, out, shard="1/2").skipped == first.done
    assert "another division" not in capsys.readouterr().err
    others = [run(videos, out, shard=f"{index}/3") for index in (1, 2, 3)]
    assert sum(summary.skipped for summary in others) == first.done
    assert capsys.readouterr().err.count(f"note: {out} holds shard 1/2, of another division than ") == 3
    assert run(videos, out).done == 0
    assert contents(out) == fresh


def test_failures_of_shards(videos: Path, tmp_path: Path) -> None:
    for index in range(6):
        (videos / f"bad{index}.mp4").write_bytes(b"no video")
    found = []
    for index in (1, 2):
        run(videos, tmp_path / "out", shard=f"{index}/2")
        found += (tmp_path / "out" / f"failures-shard-{index}-of-2.txt").read_text().splitlines()
    assert sorted(line.partition("\t")[0] for line in found) == [f"bad{index}.mp4" for index in range(6)]
    run(videos, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.glob("out/failures*")) == ["failures.txt"]
    assert sorted((tmp_path / "out" / "failures.txt").read_text().splitlines()) == sorted(found)


def test_shards_made_with_different_settings(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "out", shard="1/2")
    with pytest.raises(ConfigError, match=r"--short-side was 32, is 40 now"):
        run(videos, tmp_path / "out", shard="2/2", short_side=40)
    run(videos, tmp_path / "other", shard="2/2", short_side=40)
    shutil.copytree(tmp_path / "other", tmp_path / "out", dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=r"manifest-shard-2-of-2\.json: made with other settings: --short-side"):
        load_manifests(tmp_path / "out")


def test_who_may_run_at_the_same_time(videos: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "out"
    mine = out / ".partial" / "shard-1-of-2"
    mine.mkdir(parents=True)
    descriptors = [os.open(out, os.O_RDONLY), os.open(mine, os.O_RDONLY)]
    fcntl.flock(descriptors[0], fcntl.LOCK_SH)  # as another process with shard 1/2 has them
    fcntl.flock(descriptors[1], fcntl.LOCK_EX)
    with pytest.raises(DatasetError, match="shard 1/2 is being extracted already"):
        run(videos, out, shard="1/2")
    with pytest.raises(DatasetError, match="another extraction is writing to this folder"):
        run(videos, out)
    with pytest.raises(DatasetError, match="shard 1/2 is being extracted there, of another division than 1/3; wait"):
        run(videos, out, shard="1/3")
    assert run(videos, out, shard="2/2").done > 0
    assert mine.is_dir()
    for descriptor in descriptors:
        os.close(descriptor)
    assert run(videos, out).skipped > 0
    assert not (out / ".partial").exists()
