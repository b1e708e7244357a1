"""Every learned method by name: `train --learner`, `compare` and the harness read this table.

A new method is one entry of the `recipes` of its family; what families share is in `parts`.
"""

from typing import Any

from metajax.methods import (
    content,
    distillation,
    encoders,
    gradient,
    graph_rankings,
    graphs,
    informed,
    joint,
    mapping,
    neighbours,
    relations,
    ridge,
    transferred,
    two_domains,
    zero_shot,
)
from metajax.methods.base import Recipe
from metajax.methods.parts import objectives
from metajax.methods.settings import Settings, check_name

__all__ = ["Recipe", "names", "objectives", "recipe_of", "registry", "settings_for"]

registry: tuple[Recipe, ...] = (
    *gradient.recipes,
    *ridge.recipes,
    *encoders.recipes,
    *neighbours.recipes,
    *graphs.recipes,
    *graph_rankings.recipes,
    *zero_shot.recipes,
    *content.recipes,
    *informed.recipes,
    *joint.recipes,
    *mapping.recipes,
    *two_domains.recipes,
    *transferred.recipes,
    *relations.recipes,
    *distillation.recipes,
)
"""Every learned method: the two towers without meta-learning first, what needs two domains last."""


def names(domains: int | None = None) -> list[str]:
    """Lists the names of all recipes, or of those that data of one or two domains suffice for."""
    return [recipe.name for recipe in registry if domains != 1 or not recipe.two_domains]


def recipe_of(name: str) -> Recipe:
    """Returns the recipe of that name.

    Raises:
        ValueError: If there is none; names the nearest.
    """
    check_name(name, names(), "learner")
    return next(recipe for recipe in registry if recipe.name == name)


def settings_for(name: str, **changes: Any) -> Settings:
    """Returns the settings of a recipe: its own defaults, then those of all, with some changed.

    Args:
        name: The recipe.
        **changes: Settings to change.

    Returns:
        The settings.

    Raises:
        ValueError: If there is no such recipe, or a setting means nothing.

    Example:
        >>> settings = settings_for("maml_from_random", steps=3)
        >>> settings.learner, settings.pretrained, settings.steps
        ('maml_from_random', False, 3)
    """
    chosen: dict[str, Any] = {**recipe_of(name).settings, **changes, "learner": name}
    return Settings(**chosen)
