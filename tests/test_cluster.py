"""Cluster files: what Ray's and KubeRay's own checkers say of them, and what can be run for real on one machine."""

import inspect
import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests import kuberay

CLUSTER = Path(__file__).parent.parent / "cluster"
LAUNCHERS = sorted(CLUSTER.glob("*.yaml"))
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_launcher_files_are_valid(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    validate_config(prepare_config(deepcopy(config)))
    with pytest.raises(Exception, match="Additional properties"):
        validate_config({**prepare_config(deepcopy(config)), "typo": 1})


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_ray_reads_every_key_of_the_provider(path):
    """Ray's checker lets any key through here, so a misspelt one would only be ignored."""
    provider = yaml.safe_load(path.read_text())["provider"]
    known = keys_read(provider["type"])
    assert len(known) > 2
    assert set(provider) <= known
    assert "regoin" not in known


def keys_read(kind):
    """The keys of `provider` that Ray's source reads for one kind of provider."""
    import ray.autoscaler._private as autoscaler

    folder = Path(inspect.getfile(autoscaler)).parent
    source = "\n".join(p.read_text() for p in [*folder.glob("*.py"), *(folder / kind).glob("*.py")])
    return set(re.findall(r"""provider(?:_config|"\])(?:\[|\.get\()\s*"(\w+)\"""", source)) | set(
        re.findall(r"""\"(\w+)" (?:not )?in config\["provider"\]""", source)
    )


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_launched_clusters_ask_for_a_token_and_close_their_ports(path):
    config = yaml.safe_load(path.read_text())
    starts = [c for key in ("head", "worker") for c in config[f"{key}_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])
    for permission in config["provider"].get("security_group", {}).get("IpPermissions", []):
        assert permission["FromPort"] == permission["ToPort"] == 22
        assert all(r["CidrIp"] != "0.0.0.0/0" for r in permission["IpRanges"])


@pytest.mark.parametrize("path", KUBERAY, ids=lambda p: p.name)
def test_kuberay_files_suit_the_crd(path):
    manifest = yaml.safe_load(path.read_text())
    assert manifest["kind"].lower() == path.stem
    check = jsonschema.Draft202012Validator(kuberay.schema(manifest["kind"]))
    check.validate(manifest)
    cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    container = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    for place, typo in ((manifest["spec"], "typo"), (cluster, "rayVerzion"), (container, "imgae")):
        place[typo] = "x"
        with pytest.raises(jsonschema.ValidationError, match=typo):
            check.validate(manifest)
        del place[typo]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda p: p.name)
def test_kuberay_files_suit_the_whole_crd(path):
    manifest = yaml.safe_load(path.read_text())
    if (schema := kuberay.whole(manifest["kind"])) is None:
        pytest.skip("KUBERAY_CRDS names no folder of KubeRay's CRDs")
    jsonschema.Draft202012Validator(schema).validate(manifest)


def test_the_images_have_the_ray_that_was_tested():
    pins = (CLUSTER.parent / "constraints.txt").read_text()
    (ray,) = re.findall(r"^ray==(\S+)$", pins, re.MULTILINE)
    for path in [*LAUNCHERS, *KUBERAY]:
        text = path.read_text()
        assert set(re.findall(r"rayproject/ray:([\d.]+)-", text)) | set(re.findall(r'rayVersion: "(.*)"', text)) <= {
            ray
        }


def test_the_readme_names_every_file_and_no_other():
    readme = (CLUSTER / "README.md").read_text()
    there = {str(p.relative_to(CLUSTER)) for p in CLUSTER.rglob("*") if p.is_file() and p.name != "README.md"}
    named = set(re.findall(r"cluster/([\w./]+\.(?:yaml|sh))", readme))
    assert named == there


def test_the_slurm_script_is_bash_and_calls_ray_as_ray_parses_it(tmp_path):
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    ended = slurm(tmp_path, {"ray": 'printf "%s\\n" "$@"'}, ["few.py", "--store", "/s s"])
    assert ended.returncode == 1
    assert "Ray did not start on 1 nodes" in ended.stderr
    called = ended.stdout.splitlines()
    assert called[0] == "symmetric-run"
    split = called.index("--")
    from ray.scripts.symmetric_run import symmetric_run

    given = symmetric_run.make_context("ray", called[1:split]).params
    assert given["address"] == "localhost:20042"
    assert given["min_nodes"] == 1
    from ray.scripts.scripts import start

    started = start.make_context("start", ["--head", *given["ray_args_and_entrypoint"]]).params
    assert (started["num_cpus"], started["num_gpus"], started["include_dashboard"]) == (2, 0, False)
    assert called[split + 1 : split + 4] == ["env", "RAY_ADDRESS=localhost:20042", "bash"]
    assert called[-4:] == ["sweep", "few.py", "--store", "/s s"]
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert len(token.read_text()) == 64


def slurm(home, more, arguments, prefix=(), **environment):
    """The Slurm script on one node, as Slurm would call it: `srun` and `scontrol` are stood in for."""
    shims = home / "shims"
    shims.mkdir()
    stand_ins = {
        "scontrol": "echo localhost",
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        **more,
    }
    for name, body in stand_ins.items():
        (shims / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (shims / name).chmod(0o755)
    (home / "env" / "bin").mkdir(parents=True)
    for tool in [*stand_ins, *({"ray", "chemscale", "python"} - set(stand_ins))]:
        target = shims / tool if tool in stand_ins else Path(sys.executable).parent / tool
        (home / "env" / "bin" / tool).symlink_to(target)
    env = {
        **os.environ, "HOME": str(home), "CHEMSCALE_ENV": str(home / "env"), "SLURM_JOB_NODELIST": "node[1-1]",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "2", **environment,
    }  # fmt: skip
    env.pop("RAY_AUTH_TOKEN_PATH", None)
    command = [*prefix, "bash", str(CLUSTER / "slurm.sh"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
