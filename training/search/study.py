"""The Optuna study of a search: planned once, shared by every process that joins, revived after a kill."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Final

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from training.errors import Interrupted, RunUnavailable, TrainingDiverged, UsageError
from training.interrupts import deferred_signals
from training.runs import alone_in
from training.search.trial import DIVERGED, PLACE, PlanExhausted, Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.search.space import Value
    from training.search.trial import Search

SEARCH: Final = "search"  # the study's attribute that holds the search's fingerprint

HEARTBEAT_SECONDS: Final = 10
DEAD_AFTER: Final = 3  # heartbeats missed
LOCK_TIMEOUT_SECONDS: Final = 60  # of SQLite, while another process writes
POLL_SECONDS: Final = 1.0


def open_study(
    folder: Path,
    storage: str | None,
    search: Search,
    *,
    prune: bool,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> optuna.Study:
    """Return the study named like `folder`, made new or joined; without `storage` it is an SQLite file there.

    Raises:
        UsageError: there is a study of that name that searches something else.
        RunUnavailable: the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a line for every trial is ours to print
    folder.mkdir(parents=True, exist_ok=True)
    url = storage or f"sqlite:///{folder / 'trials.sqlite3'}"
    waits = {"connect_args": {"timeout": LOCK_TIMEOUT_SECONDS}} if url.startswith("sqlite") else {}
    with alone_in(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
        try:
            study = optuna.create_study(
                study_name=folder.name,
                storage=optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=waits,
                    heartbeat_interval=heartbeat_seconds,
                    grace_period=DEAD_AFTER * heartbeat_seconds,
                ),
                pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
                direction="maximize",
                load_if_exists=True,
            )
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError) as exc:
            # The address may hold a password: it is not repeated.
            raise RunUnavailable(f"The storage of the study {folder.name} cannot be opened: {exc}") from exc
        _require_same(study, search)
    return study


def _require_same(study: optuna.Study, search: Search) -> None:
    """Write down what a new study searches; refuse to mix trials of anything else into it."""
    wanted = search.fingerprint()
    known = study.user_attrs.get(SEARCH)
    if known is None:
        study.set_user_attr(SEARCH, wanted)
    elif known != wanted:
        before, now = known["recipe"], wanted["recipe"]
        different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        different += [name for name in wanted if name != "recipe" and known.get(name) != wanted[name]]
        raise UsageError(
            f"The study {study.study_name} searches something else: it differs in {', '.join(different)}. "
            "Give the same (only --trials may change), or another --study."
        )


def work(study: optuna.Study, trainer: Trainer, folder: Path) -> None:
    """Take trials off the plan until every one is settled, by this process or by another.

    Raises:
        Interrupted: somebody asked to stop; the trial under way goes back to the plan.
    """
    waiting = False
    with deferred_signals() as stop_requested:
        while not stop_requested():
            # SQLite lets two processes take one trial: planning ends when ours is taken, not before.
            with contextlib.ExitStack() as planning:
                planning.enter_context(alone_in(folder))
                revive(study, trainer.search.plan)
                trials = planned_trials(study)
                states = Counter(trial.state for trial in trials)
                settled = {trial.user_attrs[PLACE] for trial in trials if is_settled(trial)}
                trainer.series.count(len(settled), _best_so_far(trials))
                if states[TrialState.WAITING]:
                    _do_next(study, trainer, planning)
                    continue
            if not states[TrialState.RUNNING]:
                return
            if not waiting:
                trainer.series.say("nothing left to begin: waiting for the trials of other processes")
            waiting = True
            time.sleep(POLL_SECONDS)
    raise Interrupted("stopped between two trials")


def _do_next(study: optuna.Study, trainer: Trainer, planning: contextlib.ExitStack) -> None:
    """Take the next trial, end the planning, and do the trial."""

    def train(trial: optuna.Trial) -> float:
        planning.close()
        return trainer(trial)

    study.optimize(train, n_trials=1, catch=(TrainingDiverged, PlanExhausted))


def revive(study: optuna.Study, plan: Sequence[dict[str, Value]]) -> None:
    """Put every place of the plan that is neither settled nor in hand into the queue.

    These are all places at first, later those that --trials adds and those whose process was
    stopped or killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)  # those whose heart stopped
    taken = {
        trial.user_attrs[PLACE]
        for trial in planned_trials(study)
        if is_settled(trial) or not trial.state.is_finished()
    }
    for place, values in enumerate(plan):
        if place not in taken:
            study.enqueue_trial(values, user_attrs={PLACE: place})


def planned_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if PLACE in trial.user_attrs]


def is_settled(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial has its result, which may be that it was pruned or diverged."""
    return trial.state in {TrialState.COMPLETE, TrialState.PRUNED} or DIVERGED in trial.user_attrs


def _best_so_far(trials: list[optuna.trial.FrozenTrial]) -> str:
    values = [
        trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None
    ]
    return f"best {max(values):.2%}" if values else ""
