"""The cache of compiled functions: without one everything works, and says so."""

import jax
import pytest

from rpfnet_jax.runtime import enable_compilation_cache


@pytest.fixture
def unset():
    configured = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", configured)


def test_a_folder_that_cannot_be_written_is_a_warning(unset, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="compiled functions are not kept: .*Not a directory"):
        assert enable_compilation_cache() is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_a_folder_that_can_be_written_is_used(unset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compilation_cache() == tmp_path / "rpfnet_jax"
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "rpfnet_jax")
    assert not list((tmp_path / "rpfnet_jax").iterdir())
