"""One CloudFormation stack: what would change, changing it, why that failed, and undoing it.

Nothing is executed that was not shown: a change set is made, looked at, and then executed or thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import ClientError

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.deploy.plans import Plan
from dynalake.errors import DeployError

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import ParameterTypeDef

POLL_S: Final = 2.0
"""The longest pause between two looks at a stack; the first are shorter."""

FIRST_POLL_S: Final = 0.1
TIMEOUT_S: Final = 1800.0

_NOTHING: Final = ("didn't contain changes", "No updates are to be performed", "does not contain changes")
"""How CloudFormation says that there is nothing to do; it has no code for it."""

_CONSEQUENCES: Final = (
    "Resource creation cancelled",
    "Resource update cancelled",
    "The following resource(s)",
)
"""Reasons of failures that follow from another."""


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that a change set touches.

    Attributes:
        action: Add, Modify, Remove or Import.
        logical_id: its name in the template.
        kind: its type, such as AWS::Lambda::Function.
        replacement: "True" or "Conditional" where it is, or may be, made anew.
    """

    action: str
    logical_id: str
    kind: str
    replacement: str


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What would change.

    Attributes:
        plan: the stack as it shall be.
        id: the change set's ARN.
        is_new: whether the stack would be made.
        changes: the resources touched.
    """

    plan: Plan
    id: str
    is_new: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a stack.

    Attributes:
        at: when.
        logical_id: which resource.
        kind: its type.
        status: such as CREATE_COMPLETE.
        reason: why, where CloudFormation says it.
    """

    at: datetime
    logical_id: str
    kind: str
    status: str
    reason: str


OnEvent = Callable[[Event], None]


class Stacks:
    """The stacks of one account and region."""

    def __init__(
        self,
        cloudformation: CloudFormationClient,
        *,
        role_arn: str | None = None,
        tags: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work with this client.

        Args:
            cloudformation: the account's client.
            role_arn: the role in which CloudFormation works; the caller's own rights if None.
            tags: tags of the stacks beside dynalake's own.
            sleep: waits that many seconds.
            monotonic: a monotonic clock, seconds.
        """
        self._cloudformation = cloudformation
        self._role: dict[str, Any] = {"RoleARN": role_arn} if role_arn else {}
        self._tags = {"application": "dynalake", **(tags or {})}
        self._sleep = sleep
        self._monotonic = monotonic

    def find(self, name: str) -> Mapping[str, Any] | None:
        """A stack's description, by name or id; None where there is none."""
        try:
            stack = self._cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
        except IndexError:
            return None
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def outputs(self, name: str) -> dict[str, str]:
        """A stack's outputs; none where there is no such stack."""
        stack = self.find(name) or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}

    def parameters(self, name: str) -> dict[str, str]:
        """A stack's parameters; none where there is no such stack."""
        stack = self.find(name) or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())}

    def has(self, name: str, logical_id: str) -> bool:
        """Whether a stack has a resource."""
        try:
            self._cloudformation.describe_stack_resource(StackName=name, LogicalResourceId=logical_id)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("ValidationError", "ResourceNotFoundException"):
                return False
            raise
        return True

    def propose(self, plan: Plan) -> ChangeSet | None:
        """Make a change set; nothing else changes.

        Returns:
            The change set, or None where the stack is as it shall be.

        Raises:
            DeployError: CloudFormation refuses it, or the stack is not in a state to be changed.
        """
        known = self._check_parameters(plan)
        is_new = self._prepare(plan.stack)
        kept = sorted((self.parameters(plan.stack).keys() & known) - plan.parameters.keys())
        if is_new or not plan.keeps_parameters:
            kept = []
        parameters: list[ParameterTypeDef] = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in plan.parameters.items()
        ]
        parameters += [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]
        name = f"dynalake-{time.time_ns():x}"
        try:
            made = self._cloudformation.create_change_set(
                StackName=plan.stack,
                ChangeSetName=name,
                ChangeSetType="CREATE" if is_new else "UPDATE",
                TemplateBody=plan.template,
                Parameters=parameters,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=[{"Key": key, "Value": value} for key, value in self._tags.items()],
                **self._role,
            )
        except ClientError as error:
            raise _refused(plan.stack, error) from error
        try:
            change_set = self._wait_for_change_set(plan, made["Id"])
        except KeyboardInterrupt:
            self._throw_away(plan.stack, made["Id"], is_new)
            raise
        if change_set["Status"] != "CREATE_COMPLETE":
            reason = str(change_set.get("StatusReason", ""))
            self._throw_away(plan.stack, made["Id"], is_new)
            if any(words in reason for words in _NOTHING):
                return None
            raise DeployError(
                f"the stack {plan.stack} cannot be changed: {self._explained(plan.stack, reason)}"
            )
        changes = tuple(_changes(change_set))
        if not changes:
            self._throw_away(plan.stack, made["Id"], is_new)
            return None
        return ChangeSet(plan, made["Id"], is_new, changes)

    def propose_instead(self, change_set: ChangeSet, plan: Plan) -> ChangeSet | None:
        """Make a change set in place of another one of the same stack, which is thrown away.

        Returns, Raises: as `propose`; the other one is still there after an error.
        """
        made = self.propose(plan)
        self._throw_away(plan.stack, change_set.id, change_set.is_new and not made)
        return made

    def discard(self, change_set: ChangeSet) -> None:
        """Throw a change set away, and the empty stack that a new one left."""
        self._throw_away(change_set.plan.stack, change_set.id, change_set.is_new)

    def carry_out(self, change_set: ChangeSet, on_event: OnEvent = lambda _: None) -> dict[str, str]:
        """Execute a change set and wait for its end.

        Returns:
            The stack's outputs.

        Raises:
            DeployError: it failed; the text says the first cause, and what was undone.
        """
        stack = change_set.plan.stack
        seen = {event_id for event_id, _ in self._events(stack)}
        self._cloudformation.execute_change_set(ChangeSetName=change_set.id, StackName=stack)
        status, events = self._follow(stack, seen, on_event)
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return self.outputs(stack)
        cause = self._explained(stack, first_cause(events))
        if change_set.is_new and status in ("ROLLBACK_COMPLETE", "CREATE_FAILED"):
            self.delete(stack)
            undone = "what it had made was taken away again"
        elif status == "UPDATE_ROLLBACK_COMPLETE":
            undone = "the stack is as it was before"
        else:
            undone = f"it is in the state {status}; look at its events in the console"
        raise DeployError(f"the stack {stack} failed at {cause}; {undone}")

    def delete(self, name: str, on_event: OnEvent = lambda _: None) -> bool:
        """Delete a stack and wait for its end.

        Returns:
            Whether there was one.

        Raises:
            DeployError: it could not be deleted; the text says the first cause.
        """
        stack = self.find(name)
        if stack is None:
            return False
        stack_id = stack["StackId"]
        seen = {event_id for event_id, _ in self._events(stack_id)}
        self._cloudformation.delete_stack(StackName=stack_id, **self._role)
        status, events = self._follow(stack_id, seen, on_event)
        if status != "DELETE_COMPLETE":
            raise DeployError(f"the stack {name} could not be deleted: {first_cause(events)}")
        return True

    # How CloudFormation is asked

    def _check_parameters(self, plan: Plan) -> set[str]:
        """The template's parameters.

        Raises:
            DeployError: the plan has another, or CloudFormation refuses the template.
        """
        try:
            known = self._cloudformation.validate_template(TemplateBody=plan.template)["Parameters"]
        except ClientError as error:
            raise _refused(plan.stack, error) from error
        names = {parameter["ParameterKey"] for parameter in known}
        unknown = sorted(plan.parameters.keys() - names)
        if unknown:
            raise DeployError(
                f"{unknown[0]!r} is not a parameter of the stack {plan.stack}",
                remedy=f"use one of {', '.join(sorted(names))}",
            )
        return names

    def _prepare(self, name: str) -> bool:
        """Whether the stack is new; what a failed beginning left is taken away first."""
        stack = self.find(name)
        status = stack["StackStatus"] if stack else "REVIEW_IN_PROGRESS"
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
            self.delete(name)
            return True
        if status == "REVIEW_IN_PROGRESS":
            return True
        if status.endswith("_IN_PROGRESS"):
            raise DeployError(
                f"the stack {name} is being changed at this moment ({status})", remedy="wait for that to end"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise DeployError(
                f"the stack {name} is stuck ({status})",
                remedy="run `aws cloudformation continue-update-rollback`",
            )
        return False

    def _wait_for_change_set(self, plan: Plan, change_set: str) -> Mapping[str, Any]:
        for _ in self._looks():
            answer = self._cloudformation.describe_change_set(ChangeSetName=change_set, StackName=plan.stack)
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return self._whole(plan, change_set, dict(answer))
        raise DeployError(
            f"the change set of {plan.stack} was not made in {TIMEOUT_S:.0f} s", remedy="run it again"
        )

    def _whole(self, plan: Plan, change_set: str, answer: dict[str, Any]) -> dict[str, Any]:
        token = answer.get("NextToken")
        while token:
            page = self._cloudformation.describe_change_set(
                ChangeSetName=change_set, StackName=plan.stack, NextToken=token
            )
            answer["Changes"] = [*answer.get("Changes", ()), *page.get("Changes", ())]
            token = page.get("NextToken")
        return answer

    def _throw_away(self, stack: str, change_set: str, is_new: bool) -> None:
        self._cloudformation.delete_change_set(ChangeSetName=change_set, StackName=stack)
        if is_new and (self.find(stack) or {}).get("StackStatus") == "REVIEW_IN_PROGRESS":
            self._cloudformation.delete_stack(StackName=stack)

    def _follow(self, name: str, seen: Collection[str], on_event: OnEvent) -> tuple[str, list[Event]]:
        """Tell events until the stack is at rest; gives its status and the events, oldest first."""
        told = set(seen)
        events: list[Event] = []
        for _ in self._looks():
            stack = self.find(name)
            for event_id, event in reversed(list(self._events(name, told))):
                told.add(event_id)
                events.append(event)
                on_event(event)
            status = str(stack["StackStatus"]) if stack else "DELETE_COMPLETE"
            if not status.endswith("_IN_PROGRESS"):
                return status, events
        raise DeployError(
            f"the stack {name} is still being changed after {TIMEOUT_S:.0f} s, and CloudFormation continues by itself",
            remedy="run it again later",
        )

    def _explained(self, stack: str, cause: str) -> str:
        """The cause; where CloudFormation found it before it began, what it found."""
        if "DescribeEvents" not in cause or not hasattr(self._cloudformation, "describe_events"):
            return cause
        answer = self._cloudformation.describe_events(StackName=stack, Filters={"FailedEvents": True})
        found = [
            f"{event.get('LogicalResourceId')} ({event.get('ResourceType')}): {event['ValidationStatusReason']}"
            for event in answer.get("OperationEvents", ())
            if event.get("ValidationStatusReason")
        ]
        return "; ".join(dict.fromkeys(found)) or cause

    def _looks(self) -> Iterator[None]:
        """A look now, and others with ever longer pauses between them, until the time is over."""
        until, pause_s = self._monotonic() + TIMEOUT_S, FIRST_POLL_S
        while self._monotonic() < until:
            yield
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S)

    def _events(self, name: str, until: Collection[str] = ()) -> Iterator[tuple[str, Event]]:
        """The events, newest first, down to one of those given."""
        for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=name):
            for event in page["StackEvents"]:
                if event["EventId"] in until:
                    return
                yield (
                    event["EventId"],
                    Event(
                        event["Timestamp"],
                        event.get("LogicalResourceId", ""),
                        event.get("ResourceType", ""),
                        event.get("ResourceStatus", ""),
                        event.get("ResourceStatusReason", ""),
                    ),
                )


def stacks_of(side: Literal["source", "lake"], config: PipelineConfig, account: Account) -> Stacks:
    """The stacks of a side's account, with the tags and the service role of the configuration."""
    return Stacks(
        account.cloudformation(), role_arn=config.deploy.service_roles.get(side), tags=config.deploy.tags
    )


def first_cause(events: Collection[Event]) -> str:
    """The failure that the others follow from, in words."""
    failed = [event for event in events if event.status.endswith("_FAILED")]
    causes = [event for event in failed if not event.reason.startswith(_CONSEQUENCES)]
    for event in causes or failed:
        return f"{event.logical_id} ({event.kind}): {event.reason or 'no reason is given'}"
    rolled_back = [event for event in events if "ROLLBACK_IN_PROGRESS" in event.status and event.reason]
    return rolled_back[0].reason if rolled_back else "an unknown place: no event says why"


def _changes(change_set: Mapping[str, Any]) -> Iterator[Change]:
    for each in change_set.get("Changes", ()):
        change = each["ResourceChange"]
        yield Change(
            change["Action"],
            change["LogicalResourceId"],
            change.get("ResourceType", ""),
            change.get("Replacement", ""),
        )


def _refused(stack: str, error: ClientError) -> DeployError:
    details = error.response["Error"]
    return DeployError(
        f"CloudFormation refuses the stack {stack} ({details['Code']}): {details.get('Message', '')}"
    )
