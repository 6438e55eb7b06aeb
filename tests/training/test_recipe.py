"""Recipes are checked when they are built."""

import pytest

from ordercomp.training.recipe import Recipe


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate", "fine_tune_factor", "temperature"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_sizes_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"recipe {name} must be "):
        Recipe(**{name: value})


@pytest.mark.parametrize("name", ["momentum", "label_smoothing", "alpha", "warmup"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_fractions_must_be_fractions(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"recipe {name} must lie in \[0, 1\], got"):
        Recipe(**{name: value})


@pytest.mark.parametrize("value", ["64", None, True, float("inf"), [3]])
@pytest.mark.parametrize("name", ["epochs", "learning_rate", "momentum", "weight_decay"])
def test_what_is_no_finite_number_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"recipe {name} must be a finite number, got"):
        Recipe(**{name: value})


def test_other_settings_are_checked_too() -> None:
    with pytest.raises(ValueError, match="recipe precision must be auto, float32 or bfloat16, got 'half'"):
        Recipe(precision="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="recipe weight_decay must not be negative, got -1"):
        Recipe(weight_decay=-1)
    with pytest.raises(ValueError, match=r"recipe batch_size must be a whole number, got 2\.5"):
        Recipe(batch_size=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="recipe augment must be true or false, got 'yes'"):
        Recipe(augment="yes")  # type: ignore[arg-type]


def test_whole_numbers_may_stand_for_fractions() -> None:
    assert Recipe(epochs=3, momentum=0, alpha=1, weight_decay=0).epochs == 3
