"""The colour of each experiment of a study, the same in every figure and plot."""

from adtr.config.study import Plan

# Seven that stand out from each other, from white and from near black (3:1), for the colour-blind, too: after Okabe and
# Ito's. What has none of its own here gets one that is free, in the order of the study; the others are grey.
PALETTE = {
    "adtr": "#D55E00",
    "adtr_plus": "#C08600",
    "padim": "#0072B2",
    "patchcore": "#009E73",
    "cnn": "#C2679B",
    "spade": "#2E9BD6",
    "kde": "#7B5CC9",
}


def colours(plan: Plan) -> dict[str, str]:
    """A colour for each experiment of a study; no two are the same, not even greys."""
    experiments = list(dict.fromkeys(experiment for _, experiment in plan.params))
    free = [colour for name, colour in PALETTE.items() if name not in experiments]
    others = [experiment for experiment in experiments if experiment not in PALETTE]
    greys = (f"#{level:02x}{level:02x}{level:02x}" for level in range(0x78, 0xF0))
    given = PALETTE | dict(zip(others, [*free, *greys], strict=False))
    return {experiment: given[experiment] for experiment in experiments}


def is_grey(colour: str) -> bool:
    """Whether it is of an experiment beyond the seven."""
    return colour[1:3] == colour[3:5] == colour[5:7]
