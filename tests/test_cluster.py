"""Cluster files: what Ray's and KubeRay's own checkers say of them, and what can be run for real on one machine."""

import inspect
import os
import re
import subprocess
import sys
from copy import deepcopy
from fnmatch import fnmatch
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


def test_the_security_group_is_made_before_ray_would_make_it():
    """Ray adds IpPermissions to its own rules, which open SSH to the world; a group that has rules it leaves alone."""
    from ray.autoscaler._private.aws.config import _create_default_inbound_rules

    opened = [r for r in _create_default_inbound_rules(["sg-1"]) if {"CidrIp": "0.0.0.0/0"} in r.get("IpRanges", [])]
    assert opened, "Ray no longer opens SSH to the world: the README's commands that make the group can go"
    group = yaml.safe_load((CLUSTER / "aws.yaml").read_text())["provider"]["security_group"]
    assert set(group) == {"GroupName"}
    steps = (CLUSTER / "README.md").read_text().partition("\n## AWS\n")[2].partition("ray up")[0]
    made = re.findall(r"^ *aws ec2 (\S+) --group-name (\S+) (.*)$", steps, re.MULTILINE)
    assert [verb for verb, _, _ in made] == ["create-security-group", *["authorize-security-group-ingress"] * 2]
    assert {name for _, name, _ in made} == {group["GroupName"]}
    assert "--port 22 --cidr ADDRESS/32" in made[1][2]
    assert f"--protocol all --source-group {group['GroupName']}" in made[2][2]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_launchers_copy_the_whole_package(path):
    """rsync takes a pattern without a leading slash at any depth, so that "report" leaves out chemscale/report too."""
    root = CLUSTER.parent
    tops = [root / name for name in ("chemscale", "tune_jobs", "pyproject.toml", "constraints.txt", "README.md")]
    needed = [p.relative_to(root) for top in tops for p in (top, *top.rglob("*"))]
    assert left_out("report", Path("chemscale/report/page.py"))
    for pattern in yaml.safe_load(path.read_text())["rsync_exclude"]:
        assert re.fullmatch(r"/[^/]+", pattern)
        assert not [p for p in needed if left_out(pattern, p)]


def left_out(pattern, path):
    """Whether rsync leaves a path out by a pattern of one name: with a leading slash at the top, else at any depth."""
    return any(fnmatch(name, pattern.lstrip("/")) for name in (path.parts[:1] if pattern[0] == "/" else path.parts))


def test_files_install_what_their_store_needs():
    extras, seen = {"s3": "jobs,s3", "gs": "jobs,gcs"}, set()
    for section in (CLUSTER / "README.md").read_text().split("\n## "):
        named, schemes = set(re.findall(r"cluster/[\w./]+\.yaml", section)), set(re.findall(r"(s3|gs)://", section))
        if len(schemes) == 1:
            for name in named:
                installed = set(re.findall(r"chemscale\[(.*?)\]", (CLUSTER.parent / name).read_text()))
                assert installed == {extras[min(schemes)]}, name
                seen.add(Path(name).name)
    assert seen == {"aws.yaml", "gcp.yaml", "raycluster.yaml", "rayjob.yaml"}


def test_every_shown_token_is_made_without_being_printed_and_closed():
    texts = [(CLUSTER / "README.md").read_text(), *(p.read_text() for p in [*LAUNCHERS, *KUBERAY])]
    shown = [line for text in texts for line in text.splitlines() if "get-auth-token --generate" in line]
    assert len(shown) >= 4
    assert all("--generate > /dev/null && chmod 600 ~/.ray/auth_token" in line for line in shown)


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


def test_the_slurm_script_closes_a_token_that_ray_left_open(tmp_path):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("ours")
    token.chmod(0o644)
    slurm(tmp_path, {"ray": "true"}, ["few.py", "--store", "/s"])
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "ours"


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
