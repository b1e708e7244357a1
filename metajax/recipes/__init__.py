"""Every learned method by name: `train --learner`, `compare` and the harness read this table.

A new method is one line in `registry`; what several lines share is in `parts`.
"""

from typing import Any

from metajax import learners
from metajax.base import MetaLearner, Model
from metajax.recipes import (
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
from metajax.recipes.base import Recipe
from metajax.recipes.parts import by_gradient_steps, objectives, outer_optimizer
from metajax.settings import Settings, check_name

__all__ = ["Recipe", "names", "objectives", "recipe_of", "registry", "settings_for"]


def _without_adaptation(settings: Settings, network: Model) -> MetaLearner:
    loss = objectives[settings.objective].loss
    optimizer = outer_optimizer(settings)
    return learners.supervised(network, loss, outer=optimizer, microbatch=settings.microbatch)


_INNER_RATES = ({}, {"inner_rate": 0.03}, {"inner_rate": 0.1}, {"inner_rate": 0.2})
_RATES = ({}, {"rate": 3e-4}, {"rate": 3e-3})
_SMALL_RATES = ({}, {"inner_rate": 0.005}, {"inner_rate": 0.03})

registry: tuple[Recipe, ...] = (
    Recipe("two_tower", _without_adaptation, kind="baseline"),
    Recipe(
        "two_tower_fine_tuned",
        by_gradient_steps(learners.fine_tuned),
        grid=_INNER_RATES,
        kind="baseline",
        trained_as="two_tower",
    ),
    Recipe("maml", by_gradient_steps(learners.maml), grid=_INNER_RATES),
    Recipe("fomaml", by_gradient_steps(learners.fomaml), grid=_INNER_RATES),
    Recipe(
        "maml_from_random",
        by_gradient_steps(learners.maml),
        settings={"pretrained": False},
        grid=_INNER_RATES,
    ),
    Recipe(
        "reptile",
        gradient.reptile,
        settings={"inner_rate": 0.002, "rate": 0.3},
        grid=({}, {"inner_rate": 0.001}, {"rate": 1.0}),
    ),
    Recipe("anil", gradient.anil, settings={"inner_rate": 0.01}, grid=_SMALL_RATES),
    Recipe("boil", gradient.boil, settings={"inner_rate": 0.01}, grid=_SMALL_RATES),
    Recipe("meta_sgd", gradient.meta_sgd, grid=_INNER_RATES),
    Recipe("maml_plus_plus", gradient.maml_plus_plus, grid=_INNER_RATES),
    Recipe("imaml", gradient.imaml, settings={"steps": 15}, grid=_INNER_RATES),
    Recipe("cavia", gradient.cavia, grid=_INNER_RATES),
    Recipe("proto_maml", gradient.proto_maml, settings={"inner_rate": 0.02}, grid=_SMALL_RATES),
    Recipe("gru_gradients", gradient.gru_gradients, grid=_INNER_RATES),
    Recipe("gru_embeddings", gradient.gru_embeddings, grid=_RATES),
    Recipe(
        "bayesian_ridge",
        ridge.bayesian_ridge,
        ridge.ridge_network,
        ridge.evidence_of_factors,
        settings={"weight_decay": 0.0, "updates": 300},
        any_support=True,
    ),
    *graphs.recipes,
    *graph_rankings.recipes,
    Recipe(
        "informed_ridge",
        informed.informed_ridge,
        informed.network_of,
        informed.start,
        settings={
            "rank": 4,
            "weight_decay": 0.0,
            "rate": 3e-4,
            "updates": 200,
            "validate_every": 20,
        },
        grid=({}, {"rank": 8}),
        any_support=True,
        two_domains=True,
    ),
    *joint.recipes,
    Recipe(
        "attentive_neighbours",
        neighbours.attentive_neighbours,
        neighbours.user_memory_of,
        neighbours.memorised,
        neighbours.catalogue_of_members,
        settings={
            "objective": "ndcg",
            "order": "random",
            "rate": 0.05,
            "weight_decay": 1.0,
            "tasks": 256,
            # Some fifty numbers do not overfit: the last update is the one to keep.
            "updates": 120,
            "validate_every": 120,
        },
        grid=({}, {"order": "time"}),
    ),
    Recipe(
        "semantic_map",
        zero_shot.semantic_map,
        zero_shot.semantic_network,
        zero_shot.mapped_items,
        settings={"weight_decay": 0.0, "width": 16, "updates": 100, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
    ),
    Recipe(
        "attribute_prototypes",
        content.attribute_prototypes,
        content.prototypes_on_content,
        content.start_prototypes,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
    ),
    Recipe(
        "content_adapter",
        content.content_adapter,
        content.content_network,
        content.content_start,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "distilled",
        distillation.distilled,
        distillation.student_and_teacher,
        distillation.start_taught,
        distillation.unrated_tasks,
        settings={"weight_decay": 0.0, "width": 16, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "meta_transfer",
        content.meta_transfer,
        content.rating_network_on_content,
        content.start_on_content,
        content.source_tasks,
        settings={
            "steps": 10,
            "inner_rate": 2.0,
            "width": 16,
            "embedding": 8,
            "updates": 200,
        },
        grid=({}, {"inner_rate": 1.0}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "prototypical",
        encoders.by_one_pass(learners.prototypical),
        encoders.prototype_network,
        encoders.start_popular,
        grid=_RATES,
    ),
    Recipe(
        "matching_network",
        encoders.by_one_pass(learners.matching_network),
        encoders.matching_network,
        encoders.start_popular,
        grid=_RATES,
    ),
    Recipe(
        "conditional_process",
        encoders.neural_process,
        encoders.conditional_process,
        encoders.start_popular,
        grid=_RATES,
    ),
    Recipe(
        "attentive_process",
        encoders.neural_process,
        encoders.attentive_process,
        encoders.start_popular,
        grid=_RATES,
    ),
    Recipe(
        "sequential",
        by_gradient_steps(learners.sequential),
        encoders.sequence_network,
        encoders.start,
        settings={"adapts": ("score/*",), "inner_rate": 0.01},
        grid=({}, {"inner_rate": 0.003}, {"inner_rate": 0.02}, {"steps": 2}),
    ),
    Recipe(
        "emcdr",
        mapping.emcdr,
        mapping.map_of_users,
        mapping.mapped_linearly,
        settings=mapping.SETTINGS,
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "emcdr_linear",
        mapping.emcdr,
        mapping.linear_map_of_users,
        mapping.mapped_linearly,
        settings=mapping.SETTINGS,
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "parameter_transfer",
        transferred.parameter_transfer,
        transferred.rating_network_of_both,
        transferred.copied_users,
        two_domains.asked_of_both,
        settings={**two_domains.SETTINGS, "updates": 100},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "relation_transfer",
        relations.relation_transfer,
        relations.relation_network,
        relations.canonical_relations,
        two_domains.asked_of_both,
        settings={**two_domains.SETTINGS, "updates": 100},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "shared_space",
        encoders.by_one_pass(learners.shared_space),
        two_domains.shared_network,
        two_domains.shared_maps,
        two_domains.asked_of_both,
        settings=two_domains.SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "adversarial",
        two_domains.told_apart_by_none,
        two_domains.adversarial_network,
        two_domains.common_features,
        two_domains.beside_strangers,
        settings=two_domains.SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
    ),
    Recipe(
        "shared_and_private",
        encoders.by_one_pass(learners.shared_and_private),
        two_domains.separated_network,
        two_domains.separated_features,
        two_domains.asked_of_both,
        settings=two_domains.SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
    ),
)
"""Every learned method: first the same network without meta-learning, then the family."""


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
