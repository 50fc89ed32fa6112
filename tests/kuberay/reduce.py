"""Reduce KubeRay's CRDs to JSON schemas of the parts that `cluster/kuberay/` uses.

    python -m tests.kuberay.reduce CHECKOUT_OF_KUBERAY

Every name that the API knows stays wherever the files go; what they leave alone is cut below its name. KubeRay is
Apache-2.0, https://github.com/ray-project/kuberay, ray-operator/config/crd/bases.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FILES = {"raycluster": "ray.io_rayclusters.yaml", "rayjob": "ray.io_rayjobs.yaml"}
KEPT = ("type", "enum", "format", "required", "x-kubernetes-int-or-string", "minimum", "maximum", "pattern")


def reduced(schema: dict[str, Any], used: list[Any]) -> dict[str, Any]:
    """What a schema says of the values in `used`, and of names beside them that none uses only that they exist."""
    found = {key: schema[key] for key in KEPT if key in schema}
    if "anyOf" in schema:  # an integer or a string; its type stands beside it in no CRD
        found["anyOf"] = schema["anyOf"]
    if "properties" in schema:
        found["properties"] = {
            name: reduced(child, [u[name] for u in used if name in u]) if any(name in u for u in used) else {}
            for name, child in schema["properties"].items()
        }
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = reduced(schema["additionalProperties"], [v for u in used for v in u.values()])
    if "items" in schema:
        found["items"] = reduced(schema["items"], [v for u in used for v in u])
    return found


def main(checkout: Path) -> None:
    for name, file in FILES.items():
        crd = yaml.safe_load((checkout / "ray-operator" / "config" / "crd" / "bases" / file).read_text())
        (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
        manifest = yaml.safe_load((HERE.parents[1] / "cluster" / "kuberay" / f"{name}.yaml").read_text())
        schema = version["schema"]["openAPIV3Schema"]
        metadata = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}
        made = {
            "$comment": f"of {file} of github.com/ray-project/kuberay (Apache-2.0), cut by tests/kuberay/reduce.py",
            **reduced(schema, [manifest]),
        }
        made["properties"] = {**made["properties"], "metadata": metadata}
        (HERE / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
