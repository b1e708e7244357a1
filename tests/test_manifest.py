import hashlib
import json

import pytest

from metajax import manifest


def test_a_manifest_lists_size_and_sha256_and_gives_the_facts_back(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"abc")
    manifest.write(tmp_path, {"step": 3})
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    # FIPS 180-2, appendix B.1, gives the digest of "abc".
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashlib.sha256(b"abc").hexdigest() == abc
    assert files == {"deep/file": [3, abc]}
    assert manifest.verify(tmp_path) == {"step": 3}


def test_changed_facts_are_damage(tmp_path):
    manifest.write(tmp_path, {"step": 3})
    file = tmp_path / "manifest.json"
    file.write_text(file.read_text().replace("3", "4", 1))
    with pytest.raises(OSError, match=r"manifest\.json is damaged"):
        manifest.verify(tmp_path)
