"""Object stores by URL: what is said where they cannot be used, and where copies lie."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline
from dfer.storage import remote
from dfer.storage.remote import RemoteError
from dfer.storage.store import Store
from tasks.running.stage import store_of

CONFIG = Path(__file__).parents[2] / "pipeline_config.yaml"


@pytest.fixture
def without_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str, **_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    remote._filesystem.cache_clear()
    monkeypatch.setattr(fsspec, "filesystem", missing)


def test_a_missing_package_is_named_before_anything_starts(without_s3fs: None) -> None:
    with pytest.raises(ConfigError, match=r"work_dir .*pip install dfer\[s3\]"):
        load_pipeline("demo", CONFIG, ["work_dir=s3://bucket/work"])


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(RemoteError, match="nowhere://"):
        remote.filesystem("nowhere://bucket")


def test_mlflow_must_be_able_to_keep_its_files_there() -> None:
    with pytest.raises(ConfigError, match=r"work_dir .*mlflow\.tracking_uri"):
        load_pipeline("demo", CONFIG, ["work_dir=memory://bucket/work"])
    plan = load_pipeline(
        "demo", CONFIG, ["work_dir=memory://bucket/work/", "mlflow.tracking_uri=http://127.0.0.1:5000"]
    )
    assert plan.work_url == "memory://bucket/work"


def test_a_url_with_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match="credentials do not belong") as error:
        load_pipeline("demo", CONFIG, ["work_dir=s3://key:hunter2@bucket/work"])
    assert "hunter2" not in str(error.value)


def test_the_scratch_folder_is_below_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFER_CACHE", str(tmp_path))
    assert remote.scratch("s3://bucket/a/b") == tmp_path / "remote" / "s3" / "bucket" / "a" / "b"
    with pytest.raises(RemoteError, match=r"'\.\.'"):
        remote.scratch("s3://bucket/../../etc")


def test_local_work_directories_stay_local(tmp_path: Path) -> None:
    plan = load_pipeline("demo", CONFIG, [f"work_dir={tmp_path}"])
    assert (plan.work_dir, plan.work_url) == (tmp_path, None)
    store = store_of(plan)
    assert isinstance(store, Store)
    assert store.root == tmp_path / "stages"


def test_where_nothing_can_be_written_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(remote.filesystem("memory://bucket")[0], "pipe_file", refused)
    with pytest.raises(RemoteError, match=r"memory://bucket/work cannot be written to.*Access Denied"):
        remote.check_writable("memory://bucket/work")
