"""A plan for the tables."""

import dataclasses

import planted
import pytest

from adtr.config.study import Plan, resolve


@pytest.fixture
def plan() -> Plan:
    """The study `smoke` with two seeds."""
    plan = resolve("smoke", planted.REPOSITORY / "params")
    return dataclasses.replace(plan, study=plan.study.model_copy(update={"seeds": [0, 1]}))
