"""A sandbox with a store and results of its own, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    for name, folder in {'LTBENCH_STORE': 'store', 'LTBENCH_RESULTS': 'results', 'LTBENCH_DATA': 'data'}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ltbench(sandbox):
    def call(*arguments: str, code: int = 0, **env: str) -> str:
        """Run `ltbench ARGUMENTS`; return what it prints, after comparing its exit code."""
        result = subprocess.run(
            [sys.executable, '-m', 'ltbench.cli', *arguments],
            cwd=sandbox, env={**os.environ, **env}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        assert 'Traceback' not in result.stdout + result.stderr
        return result.stdout + result.stderr

    return call


@pytest.fixture
def logits_files():
    def read(store: Path) -> dict[str, bytes]:
        """Test logits of every artifact of a store, by fingerprint."""
        return {path.parent.name: path.read_bytes() for path in store.glob('artifacts/*/*/test.npz')}

    return read
