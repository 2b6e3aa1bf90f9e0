"""Holds podmonitor.yaml and prometheusrule.yaml against the schemas of the Prometheus operator.

The models ignore what they do not know, so what they kept is compared with what was read: a key
that is lost on the way is one that the operator does not have.
"""

import pathlib
import sys

import yaml
from cloudcoil.models.prometheus_operator import v1

HERE = pathlib.Path(__file__).parent


def lost(read, kept, path=""):
    """Keys of `read` that `kept` has not."""
    if isinstance(read, dict):
        for key, value in read.items():
            at = f"{path}.{key}"
            if not isinstance(kept, dict) or key not in kept:
                yield at
            else:
                yield from lost(value, kept[key], at)
    elif isinstance(read, list):
        for index, value in enumerate(read):
            yield from lost(value, kept[index], f"{path}[{index}]")


def check(name, model):
    read = yaml.safe_load((HERE / name).read_text())
    kept = model.model_validate(read).model_dump(by_alias=True, exclude_none=True, mode="json")
    unknown = list(lost(read, kept))
    print(f"{name}: {'unknown keys: ' + ', '.join(unknown) if unknown else 'ok'}")
    return not unknown


results = [check("podmonitor.yaml", v1.PodMonitor), check("prometheusrule.yaml", v1.PrometheusRule)]
sys.exit(0 if all(results) else 1)
