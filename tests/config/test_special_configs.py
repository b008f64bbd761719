"""--config: a file, or what a shell's <(command) gives; what would be waited for without end, or has no end, is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_core import ConfigError, RunConfig
from special_files import SPECIAL, in_time

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.reliability("input"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"),
]
TEXT = "model: {name: palette}\ndata: {name: weave}\n"


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_config_that_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    SPECIAL[kind](path)
    with pytest.raises(ConfigError, match=r"cannot read the config file .*config\.yaml"):
        in_time(lambda: RunConfig.create(config=path), *([path] if kind == "pipe" else []))


def test_a_config_of_ten_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # a hole, which takes no space
    with pytest.raises(ConfigError, match="bytes"):
        RunConfig.create(config=path)


@pytest.mark.parametrize("shell", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_what_a_shell_pipes_is_read(shell: str) -> None:
    """``--config <(command)``, whose answer comes late."""
    if not Path(shell.format("")).is_dir():
        pytest.skip("this system has none")
    with subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(0.3); print({TEXT!r})"], stdout=subprocess.PIPE
    ) as late:
        assert late.stdout is not None
        config = in_time(lambda: RunConfig.create(config=shell.format(late.stdout.fileno())))
    assert config.model.name == "palette"


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this system has none")
def test_a_pipe_without_end_is_refused() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: print('# ' + 'x' * 1000)"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        with pytest.raises(ConfigError, match="larger than"):
            in_time(lambda: RunConfig.create(config=f"/dev/fd/{endless.stdout.fileno()}"))
        endless.kill()
