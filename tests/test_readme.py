"""What the README shows works as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, short_folder):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    env = {**os.environ, "RAY_TMPDIR": short_folder, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "beta" in lines[0]
    assert "Prediction" in lines[1]
    assert float(lines[2].split()[0]) > 0
    assert (tmp_path / "report" / "index.html").exists()


def test_the_tune_program_of_the_readme_is_the_one_that_is_tested():
    shown = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    own = (ROOT / "tests" / "sweep" / "own_program.py").read_text()
    assert len(shown) == 2
    assert own.endswith(shown[1])


def test_the_makefile_wraps_commands_that_the_readme_shows():
    makefile = (ROOT / "Makefile").read_text().replace("$(ACTIVE)", ".venv/bin").replace("$(PYTHON)", "python3")
    makefile = makefile.replace("$(STORE)", "runs/quickstart").replace("$(PROCESSES)", "2").replace(" --quiet", "")
    commands = re.findall(r"^\t((?:\.venv|python3).*)$", makefile, re.MULTILINE)
    shown = [c for c in commands if "check" not in c and not re.search(r"ruff|lint|pyright|not slow", c)]
    assert len(shown) >= 6
    for command in shown:
        assert command in README, command


@pytest.mark.parametrize("path", ["README.md", "cluster/README.md", *sorted(map(str, Path("tune_jobs").glob("*.py")))])
def test_commands_that_people_are_shown_can_be_given(path):
    from chemscale.cli.arguments import parser

    top, text = parser(), (ROOT / path).read_text()
    text = text if path.endswith(".py") else "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
    for command in re.findall(r"^ *(?:\.venv/bin/)?(chemscale .*)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE):
        words = shlex.split(command, comments=True)[1:]
        assert callable(top.parse_args(words).verb), command


def test_every_file_that_the_readme_names_exists():
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / path).exists(), path


def test_every_verb_of_the_readme_is_a_verb():
    from chemscale.cli.arguments import parser

    text = parser().format_help()
    for verb in ("show", "sweep", "search", "train", "status", "report", "fit", "compare", "audit", "plan", "explore",
        "generate", "embed", "evaluate", "export", "data", "store",
    ):  # fmt: skip
        assert re.search(rf"^\s+{verb}\s", text, re.MULTILINE), verb
        assert f"`{verb}" in README or f"`chemscale {verb}" in README, verb


@pytest.mark.parametrize("path", ["README.md", "cluster/README.md"])
def test_every_command_that_is_shown_parses(path):
    from chemscale.cli.arguments import parser

    blocks = re.findall(r"^(?: *|\d+\. )```\w*\n(.*?)^ *```$", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [c[1] for line in lines if (c := re.match(r" *(?:\.venv/bin/)?chemscale (.*)", line))]
    assert len(commands) >= 8
    for command in commands:
        assert parser().parse_args(shlex.split(command, comments=True)).verb, command
