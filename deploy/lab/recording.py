# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself in /metrics, recorded, and which alerts follow when it goes on so.

promtool plays the recordings to the alert rules: a node is well for a while, and then in a
situation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from lab.node import METRICS_ADDRESS, REPOSITORY, Node
from lab.process import LabError, run

RULES = REPOSITORY / "deploy" / "alerts" / "millrace.yml"
WELL_MINUTES = 10
# Longer than any rule waits, and than any looks back.
SITUATION_MINUTES = 30

_SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$")

# By series, with its labels.
Recording = Mapping[str, float]

UP = 'up{instance="node:9465",job="millrace"}'
DEAD: Recording = {UP: 0.0}


def record(node: Node) -> Recording:
    words = ["curl", "--silent", "--fail", "--max-time", "5", f"http://{METRICS_ADDRESS}/metrics"]
    series = {UP: 1.0}
    for line in node.namespace.run(words).stdout.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        labels = f'instance="node:9465",job="millrace",{sample["labels"]}'
        series[f"{sample['name']}{{{labels}}}"] = float(sample["value"])
    return series


def firing(well: Recording, situation: Recording, directory: Path) -> list[str]:
    """Names of the alerts that fire when a node that was well has been in the situation for long.

    Counters stand still.
    """
    series = [
        {
            "series": name,
            "values": f"{_values(well.get(name), WELL_MINUTES)} "
            f"{_values(situation.get(name), SITUATION_MINUTES)}",
        }
        for name in sorted({*well, *situation})
    ]
    # Expects none, since promtool says what it got instead.
    question = {
        "eval_time": f"{WELL_MINUTES + SITUATION_MINUTES - 1}m",
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "exp_samples": [],
    }
    test = {
        "rule_files": [str(RULES)],
        # As often as series get values: what fires in between is not asked for.
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [question]}],
    }
    path = directory / "recorded.json"  # JSON is YAML
    path.write_text(json.dumps(test))
    done = run(["promtool", "test", "rules", path], check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0 and "got:" not in said:
        raise LabError(f"promtool does not understand the recording: {said}")
    return sorted(set(re.findall(r'alertname="(\w+)"', said)))


def _values(value: float | None, minutes: int) -> str:
    """Series that are not there any more are marked so, as Prometheus does after a scrape."""
    if value is None:
        return f"stale _x{minutes - 1}"
    return f"{value!r}x{minutes - 1}"
