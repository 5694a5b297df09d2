"""Plans of the preset `test` with a number changed, for the tests of what depends on it."""

import copy

from surrodiff.config import params
from surrodiff.planning.plan import Plan, build


def plan_of(raw: dict) -> Plan:
    return build(params.parse(raw))


def changed_plan(raw: dict, key: str, value) -> Plan:
    """The plan after setting one dotted key of the preset `test`."""
    before, block = params.parse(raw), copy.deepcopy(raw)
    after = block
    *parents, last = ("presets.test." + key).split(".")
    for parent in parents:
        block = block.setdefault(parent, {})
    block[last] = value
    assert params.parse(after) != before
    return plan_of(after)
