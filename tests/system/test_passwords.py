from __future__ import annotations

import pytest

from dfer.system.passwords import mask_passwords


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://dfer:secret@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("root: s3://key:s3cr3t@bucket/x\nother: https://u:p@h", "root: s3://***@bucket/x\nother: https://***@h"),
        (
            "cannot reach http://u:pa:ss@host/x or http://u:p@ss@host",
            "cannot reach http://***@host/x or http://***@host",
        ),
        ('{"a": "http://token@host", "b": "c@d"}', '{"a": "http://***@host", "b": "c@d"}'),
        ("http://127.0.0.1:4200/api and a@b", "http://127.0.0.1:4200/api and a@b"),
        ("clip@10fps and http://host/a@b", "clip@10fps and http://host/a@b"),
    ],
)
def test_passwords_in_addresses_are_masked(text, masked):
    assert mask_passwords(text) == masked
