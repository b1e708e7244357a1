"""The recipe of a student for the target, taught by what is said of items of either domain."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import cross_domain
from metajax.adaptation import ridge_head
from metajax.baselines.content import Content, content_evidence, fit_content, widths_of_content
from metajax.cross_domain.student_network import StudentNetwork, start_student
from metajax.cross_domain.unrated_tasks import sample_unrated_tasks, unrated_table
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import objectives, outer_optimizer
from metajax.methods.sampling import SHOWN, Sampler
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import from_support_module
from metajax.types import Examples, MemberInputs, MetaLearner, Params, SupportModel

__all__ = ["distilled", "methods", "start_taught", "student_and_teacher", "unrated_tasks"]


def student_and_teacher(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the student, and room for a teacher beside it."""
    traits, width = widths_of_content(shapes.item_width)
    student = from_support_module(StudentNetwork(shapes.items, width, settings.options.width))
    said = traits + shapes.item_width

    def init(key: jax.Array, inputs: Any) -> Params:
        teacher = Content(
            jnp.zeros(shapes.items),
            jnp.zeros((shapes.items, traits)),
            jnp.zeros((said, width)),
            jnp.zeros((shapes.user_width, width)),
            jnp.ones(()),
        )
        return {"student": student.init(key, inputs), "teacher": teacher}

    def encode(params: Params, support: Examples) -> Any:
        return student.encode(params["student"], support)

    def decode(params: Params, state: Any, inputs: Any) -> Any:
        if isinstance(inputs, MemberInputs):
            inputs = inputs.inputs
        return student.decode(params["student"], state, inputs)

    return SupportModel(init, encode, decode)


def start_taught(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts the teacher as the closed form, and the student at the teacher's vectors."""
    del settings
    teacher = fit_content(training)
    said = np.concatenate([teacher.traits, training.item_features], axis=1)
    count = training.interactions.item_counts
    begin = partial(
        start_student,
        design=jnp.asarray(said @ np.asarray(teacher.encoder)),
        expected=teacher.expected,
        share=jnp.asarray(count / np.sum(count), jnp.float32),
        user_map=teacher.user_map,
        noise=teacher.noise,
    )
    return lambda params: {"student": begin(params["student"]), "teacher": teacher}


def unrated_tasks(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples users of the target with their ratings, and users of the source without."""
    del shapes
    source, target = SHOWN
    return Sampler(
        partial(
            sample_unrated_tasks,
            tasks=settings.tasks,
            source=source,
            support=min(settings.support, target),
            query=settings.query,
        ),
        unrated_table,
    )


def distilled(settings: Settings, network: SupportModel) -> MetaLearner:
    """Builds the learner with the loss and the optimizer of the settings."""
    return cross_domain.distilled(
        network,
        ridge_head(content_evidence),
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "distilled",
        distilled,
        student_and_teacher,
        start_taught,
        unrated_tasks,
        settings={"weight_decay": 0.0, "width": 16, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)
