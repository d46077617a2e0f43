"""What watches the pipeline while nobody looks: the function's heartbeat, and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from dynalake.deploy.names import checks_schedule, function_name, heartbeat_schedule
from dynalake.deploy.plans import Deployment
from dynalake.doctor.checkup import FailedError, Patient, Prerequisite, SkippedError
from ingest.checkpoints import Checkpoints

HOUR_MS: Final = 3_600_000


def of_schedules(patient: Patient) -> Sequence[Prerequisite]:
    """The prerequisites of being told when something dies."""
    return [
        Prerequisite("source", "heartbeat", lambda: _heartbeat(patient)),
        Prerequisite("lake", "checks", lambda: _checks(patient)),
    ]


def _heartbeat(patient: Patient) -> str:
    if not patient.is_deployed:
        raise SkippedError("a worker stores its own reports in the lake")
    if not patient.config.deploy.heartbeat:
        raise SkippedError("switched off (deploy.heartbeat): no alarm tells that the stream has died")
    schedule = _enabled(patient, "source", heartbeat_schedule(patient.name), patient.redeploy("source"))
    if not str(schedule["Target"]["Arn"]).endswith(f":function:{function_name(patient.name)}"):
        raise FailedError("is sent to another function", patient.redeploy("source"))
    return str(schedule["ScheduleExpression"])


def _checks(patient: Patient) -> str:
    """Whether checks are scheduled and run; the last one's time is in the lake, whoever ran it."""
    if not patient.is_deployed:
        raise SkippedError("a worker's checks are scheduled by whoever runs it")
    deployment = Deployment(patient.name, patient.config)
    checks = patient.config.deploy.checks
    if deployment.checks_are == "off":
        raise SkippedError("switched off (deploy.checks.enabled): no alarm tells that none has run")
    if deployment.checks_side is not None:
        redeploy = patient.redeploy(deployment.checks_side)
        schedule = _enabled(patient, deployment.checks_side, checks_schedule(patient.name), redeploy)
        if schedule["Target"]["Arn"] != checks.target or schedule["ScheduleExpression"] != checks.schedule:
            raise FailedError("are scheduled otherwise than the configuration says", redeploy)
    last = _last_check(patient)
    unscheduled = "" if checks.target else "NO CHECK IS SCHEDULED (deploy.checks.target)"
    if last is None:
        raise SkippedError(
            f"{unscheduled or f'scheduled, {checks.schedule}'}, and none has run yet: the alarm checks-silent stays "
            f"raised until the first, dynalake check {patient.name}"
        )
    hours = (patient.now_ms() - last) / HOUR_MS
    if hours > checks.hours_until_silent:
        raise FailedError(
            f"none has run for {hours:,.0f} hours" + (f"; {unscheduled}" if unscheduled else ""),
            f"dynalake check {patient.name} shows why; "
            + (
                "see the log of what runs them"
                if checks.target
                else f"then set deploy.checks.target and run {patient.redeploy('lake')}, or schedule it yourself"
            ),
        )
    return f"{unscheduled or f'scheduled, {checks.schedule}'}; the last ran {hours:,.1f} hours ago"


def _last_check(patient: Patient) -> int | None:
    """Epoch milliseconds of the last check; None if there was none."""
    from expectations.history import PREFIX, check_from

    config = patient.config
    checkpoints = Checkpoints(patient.account("lake").dynamodb(), config.checkpoint_table, config.lake_table)
    try:
        found = checkpoints.newest(PREFIX, 1)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return check_from(found[0]).at if found else None


def _enabled(patient: Patient, side: Literal["source", "lake"], name: str, redeploy: str) -> Any:
    """A schedule, which is enabled.

    Raises:
        FailedError: there is none, or it is switched off.
    """
    scheduler = patient.account(side).scheduler()
    try:
        schedule = scheduler.get_schedule(Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        raise FailedError(f"the schedule {name} is missing", redeploy) from None
    if schedule.get("State") != "ENABLED":
        raise FailedError(
            f"the schedule {name} is {schedule.get('State')}",
            f"{patient.aws(side, 'scheduler delete-schedule')} --name {name}; then {redeploy}",
        )
    return schedule
