"""The order in which the steps of a run have their turn."""

import dagster as dg

from scizor_assets.jobs import assets_below
from scizor_assets.launch import Launch, Launcher
from scizor_resources.platform import Platform


def test_what_can_be_queried_comes_before_what_is_measured_and_checked(platform: Platform) -> None:
    launcher = Launcher(platform, marts=False)
    launch = Launch(assets_below("asx", "1m"), "2026-03-03", providers=("tape",))
    with launcher.instance() as instance:
        result = launcher.run(instance, launch)

    started = dg.DagsterEventType.STEP_START
    steps = [event.step_key for event in result.all_events if event.event_type == started]
    assert steps[:6] == [
        *("asx__bars_1m", "asx__indicators_1m"),
        *("asx__bars_5m", "asx__indicators_5m"),
        *("asx__bars_15m", "asx__indicators_15m"),
    ]
    assert len(steps) > 6
