"""The command `metajax transfer`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax import runs
from metajax.cli import console, sources
from metajax.cli.train import (
    check_report,
    check_resume,
    claimed,
    preparing,
    resumed,
    suited,
    train_and_judge,
)
from metajax.cross_domain.domains import (
    DomainPair,
    load_domains,
)
from metajax.methods import Settings
from metajax.registry import closed_form_of, settings_for, with_changes
from metajax.runs import judging

__all__ = ["prepare", "transfer"]

prepare = sources.of_training


def transfer(
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    *,
    source: str = "",
    target: str = "",
    column: str | None = None,
    matched: Annotated[bool, Parameter(negative="--unmatched")] = True,
    overlap_list: Path | None = None,
    rescale: bool = False,
    source_reading: Annotated[sources.OF_SOURCE | None, Parameter(name="*")] = None,
    target_reading: Annotated[sources.OF_TARGET | None, Parameter(name="*")] = None,
    run: Path | None = None,
    resume: Path | None = None,
    report: bool = True,
    quick: bool = False,
) -> int:
    """Trains on two domains, then judges on users who are new to the second.

    Without ratings in either, lists of the second's items are judged, and where no method is named
    it is one that orders items. Named data sets do without options of reading. In a file of
    settings those of one domain are in a table, [source] or [target].

    Args:
        settings: The settings.
        source: Data set (a name or a path) where there is plenty; with --column its tokens of the
            source, separated by commas. Options of reading hold for both data sets; those of the
            source alone are given as --source.separator ";" or --source.rating-column stars.
        target: The same of where there is little; its own options, as --target.separator.
        column: Column of tokens of items, such as genres, by which --data is split in two.
        matched: The data sets have users in common.
        overlap_list: File of the user ids, or source and target ids, of the same user; by
            default equal ids are.
        rescale: Map the source's ratings to the target's scale.
        source_reading: Options of reading the source alone.
        target_reading: The same of the target.
        run: Folder of the run; must not exist. Default: runs/TARGET-transfer, numbered if taken.
        resume: Folder of a run to resume, with its own settings.
        report: Evaluate on the cold users at the end, with baselines and no transfer.
        quick: Few updates, and baselines as they are: to see that everything runs.
    """
    if report:
        check_report()
    named, settings = getattr(settings, "named", True), sources.plain(settings)
    own = [sources.of_domain(one) for one in (source_reading, target_reading)]
    if resume is not None:
        default = settings_for(sources.ACROSS)
        others = source or target or column or overlap_list or rescale or not matched or any(own)
        check_resume(resume, run, settings, default, runs.settings_of, others)
        opened, progress = resumed(resume)
    else:
        chosen = DomainPair(
            source=source,
            target=target,
            column=column,
            data=settings.data,
            matched=matched,
            overlap_list=None if overlap_list is None else str(overlap_list),
            rescale=rescale,
            source_reading=own[0],
            target_reading=own[1],
        )
        with claimed(run, f"{Path(chosen.main).stem}-transfer") as claim:
            with console.fetching(chosen.main) as fetched:
                domains = load_domains(chosen, settings.reading(), progress=fetched)
            console.notes(domains.dataset)
            if not named:
                settings = suited(settings, domains.dataset)
            console.reductions(settings.method, domains.dataset)
            if quick and closed_form_of(settings) is None:
                rank = getattr(settings.options, "rank", None)
                few = {} if rank is None else {"rank": min(rank, 4)}
                settings = with_changes(settings, updates=50, **few)
            with console.preparing(preparing(settings)):
                opened, progress = runs.create(claim, settings, domains, chosen)
    scope = judging.Scope(trials=1 if quick else None)
    return train_and_judge(opened, progress, scope if report else None)
