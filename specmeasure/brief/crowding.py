"""Other work on the machine during the run: how much, on which arms, and the noise meanwhile.

That a trial was crowded does not say that it was slow: the A/A interval says what became of it.
"""

from specmeasure.brief.names import listed, plain
from specmeasure.brief.numbers import chance, count, noise, reason, share
from specmeasure.records.estimates import CrowdedTrials, Interval, Unmeasured

WORTH_TELLING = 0.01  # of the trials; below it a machine passes for quiet
SMALL_CHANCE = 0.01  # of arms crowded so unequally by accident
UNEQUAL = 0.01  # difference of shares that is told


def write_crowding(crowding: CrowdedTrials | Unmeasured | None) -> str | None:
    """How much of the run other work crowded; None where it was quiet or nobody knows."""
    if not isinstance(crowding, CrowdedTrials):
        return None
    crowded = crowding.crowded_share
    if crowded < WORTH_TELLING:
        return None
    return f"{_what(crowding)} during {share(crowded)} of the trials. Nothing was removed for it."


def write_crowding_details(crowding: CrowdedTrials | Unmeasured | None) -> list[str]:
    """What one page has no room for: arm by arm, and the A/A interval with and without it."""
    match crowding:
        case None:
            return []
        case Unmeasured(reason=why):
            return [f"Other work during the run: not measured, {plain(why).removesuffix('.')}."]
        case CrowdedTrials(crowded_share=0):
            watched = count(crowding.num_trials, "trial")
            return [f"Other work crowded none of the {watched} around which it was looked for."]
        case CrowdedTrials():
            return [f"Trials that other work crowded: {_by_arm(crowding)}.", _floors(crowding)]


def write_unequal_crowding(crowding: CrowdedTrials | Unmeasured | None) -> str | None:
    """A caveat where other work met some arms more often than chance explains; else None."""
    if not isinstance(crowding, CrowdedTrials) or crowding.p_value is None:
        return None
    shares = [arm.crowded_share for arm in crowding.arms if arm.crowded_share is not None]
    if crowding.p_value >= SMALL_CHANCE or max(shares) - min(shares) < UNEQUAL:
        return None
    return (
        f"Other work did not crowd all arms alike: {_by_arm(crowding)} of the trials. By accident "
        f"this would come with a chance of p = {chance(crowding.p_value)} (Cochran's Q, over "
        "cycles). The more an arm was crowded, the slower it looks: measure again with nothing "
        "else running."
    )


def _what(crowding: CrowdedTrials) -> str:
    """What others did, in crowded trials on average."""
    found = []
    if crowding.other_cores is not None:
        of = "" if crowding.num_cores is None else f" of {crowding.num_cores}"
        found.append(f"Other work kept {crowding.other_cores:.1f}{of} cores busy")
    if crowding.stalled_share is not None:
        something = "something" if found else "Something"
        found.append(f"{something} waited for a core {share(crowding.stalled_share)} of the time")
    return " and ".join(found)


def _by_arm(crowding: CrowdedTrials) -> str:
    said = [
        f"{plain(arm.name)} {share(arm.crowded_share)}"
        for arm in crowding.arms
        if arm.crowded_share is not None
    ]
    return listed(said, at_most=12)


def _floors(crowding: CrowdedTrials) -> str:
    crowded, quiet = crowding.crowded_noise_floor, crowding.quiet_noise_floor
    said = [
        f"{noise(floor)} {when}"
        if isinstance(floor, Interval)
        else f"not measured {when}, {plain(reason(floor) or '').removesuffix('.')}"
        for floor, when in ((crowded, "while other work crowded them"), (quiet, "while none did"))
    ]
    return f"A/A over trials by what else went on: {'; '.join(said)}."
