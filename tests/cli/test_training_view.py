"""What a training looks like on a terminal of 80 columns."""

import io
from typing import Any

from rich.console import Console

from motus_cli.training_view import LEVELS, POINTS, Curve, TrainingView, training_view
from motus_recipes.training.step_note import StepNote


def note(done: int, **changes: Any) -> StepNote:
    told: dict[str, Any] = {
        "stage": "03-stage2",
        "done": done,
        "steps": 150,
        "batch": 32,
        "losses": {"loss": 2.0 - done / 100, "video": 0.5, "action": 1.0},
        "gradient_norm": 0.83,
        "learning_rate": 9.1e-4,
        "drawn": {"target": 0.667, "anchor": 0.333},
        "asked": {"target": 2 / 3, "anchor": 1 / 3},
    }
    return StepNote(**{**told, **changes})


def drawn(view: TrainingView) -> str:
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with screen.capture() as captured:
        screen.print(view.drawing())
    return captured.get()


def test_it_tells_loss_speed_time_left_and_mixture():
    now = 0.0
    view = TrainingView("train", clock=lambda: now)
    for step in range(1, 101):
        now = step / 4
        view.update(400 + step, 1600, note(step))
    told = drawn(view)
    rows = {line.split()[0]: line for line in told.splitlines()}
    assert list(rows) == ["train", "03-stage2", "loss", "speed", "mixture"]  # nothing is folded
    assert "500/1600" in rows["train"]
    assert "4:35 left" in rows["train"]
    assert "100/150" in rows["03-stage2"]
    assert "12 s left" in rows["03-stage2"]
    assert "1.0000" in rows["loss"]
    assert "action 1.0000" in rows["loss"]
    assert LEVELS[-1] in rows["loss"]
    assert "4 steps/s  128 windows/s" in rows["speed"]
    assert "target 66.7% (asked 66.7%)" in rows["mixture"]
    assert "anchor 33.3% (asked 33.3%)" in rows["mixture"]


def test_a_new_stage_begins_a_new_curve():
    view = TrainingView("train")
    view.update(1, 10, note(1))
    view.update(2, 10, note(2))
    assert sum(character in LEVELS for character in drawn(view)) == 2
    view.update(3, 10, note(1, stage="04-stage3"))
    assert sum(character in LEVELS for character in drawn(view)) == 1
    assert "04-stage3" in drawn(view)


def test_words_stand_for_themselves():
    view = TrainingView("train")
    assert drawn(view).split() == ["train"]
    view.update(0, 10, "frames read 7/20")
    assert "frames read 7/20" in drawn(view)


def test_a_curve_shows_means_over_ever_longer_spans():
    curve = Curve()
    for step in range(1000):
        curve.add(1000.0 - step)
    shown = str(curve)
    assert POINTS <= len(shown) < 2 * POINTS
    assert shown[0] == LEVELS[-1]
    assert shown[-1] == LEVELS[0]
    assert [LEVELS.index(block) for block in shown] == sorted(
        (LEVELS.index(block) for block in shown), reverse=True
    )


def test_the_screen_is_left_clean():
    out = io.StringIO()
    screen = Console(file=out, width=80, force_terminal=True, color_system=None)
    with training_view(screen, "train") as on_progress:
        on_progress(1, 10, note(1))
    assert "loss" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")  # the last line was erased


def test_as_text_a_step_is_a_short_line():
    assert str(note(100)) == "03-stage2  loss 1.0000  target 67%  anchor 33%"
