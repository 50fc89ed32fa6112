"""What our KubeRay files may say: the fields of ray.io/v1 that they use, with their types, and nothing else.

Where KUBERAY_CRDS names a folder with KubeRay's own CRDs (`helm-chart/kuberay-operator/crds` of its repository),
`whole` gives their schema.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

TEXT, WHOLE, YES = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these fields only."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def many(item: dict[str, Any]) -> dict[str, Any]:
    """A list of at least one."""
    return {"type": "array", "items": item, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = fields(
    ("name", "image"),
    name=TEXT,
    image=TEXT,
    command=many(TEXT),
    resources=fields(requests=TEXTS, limits=TEXTS),
    ports=many(fields(("containerPort",), name=TEXT, containerPort=WHOLE)),
    volumeMounts=many(fields(("name", "mountPath"), name=TEXT, mountPath=TEXT)),
)
POD = fields(
    ("containers",),
    serviceAccountName=TEXT,
    containers=many(CONTAINER),
    volumes=many(fields(("name",), name=TEXT, configMap=fields(name=TEXT))),
    tolerations=many(
        fields(key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect={"enum": ["NoSchedule"]})
    ),
)
TEMPLATE = fields(("spec",), spec=POD)
CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=YES,
    autoscalerOptions=fields(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=WHOLE),
    headGroupSpec=fields(("template",), serviceType=TEXT, rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=many(
        fields(
            ("groupName", "template"),
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
JOB = fields(
    ("entrypoint",),
    entrypoint=TEXT,
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=YES,
    ttlSecondsAfterFinished=WHOLE,
    rayClusterSpec=CLUSTER,
)


def schema(kind: str) -> dict[str, Any]:
    """Of a whole manifest."""
    spec = {"RayCluster": CLUSTER, "RayJob": JOB}[kind]
    return fields(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=fields(("name",), name=TEXT),
        spec=spec,
    )


def whole(kind: str) -> dict[str, Any] | None:
    """KubeRay's own schema of ray.io/v1, where it is at hand."""
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        return None
    crd = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return version["schema"]["openAPIV3Schema"]
