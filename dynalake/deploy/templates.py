"""Our CloudFormation templates, and what they come to with a stack's parameters.

CloudFormation evaluates a template only when it makes the stack. What is wrong is to be said before anything is made,
and `doctor` compares what the roles may do with what the templates grant. So the few intrinsic functions that the
templates use are evaluated here (CloudFormation template reference, "Intrinsic functions").
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import yaml

from dynalake.deploy.names import partition_of

MAX_ENVIRONMENT: Final = 4096
"""Bytes of all environment variables of a function together, which cannot be raised (AWS Lambda quotas)."""

_NO_VALUE: Final = object()


def template(name: str) -> str:
    """A template's text."""
    return resources.files("ingest").joinpath("templates", name).read_text(encoding="utf-8")


class Evaluated:
    """A template with a stack's parameters."""

    def __init__(self, text: str, parameters: Mapping[str, str], *, account: str, region: str) -> None:
        """Evaluate a template.

        Args:
            text: the template.
            parameters: the stack's parameters; others have their default values.
            account: the account of the stack.
            region: its Region.
        """
        self._template = _parsed(text)
        partition = partition_of(region)
        self._values: dict[str, Any] = {
            "AWS::AccountId": account,
            "AWS::NoValue": _NO_VALUE,
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::URLSuffix": "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com",
        }
        for name, declared in self._template["Parameters"].items():
            value = parameters.get(name, declared.get("Default"))
            if value is not None:
                listed = declared["Type"].startswith(("CommaDelimitedList", "List<"))
                self._values[name] = str(value).split(",") if listed else str(value)

    def resources(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The properties of the resources of a type, such as AWS::IAM::Role, that the stack has."""
        for resource in self._template["Resources"].values():
            wanted = resource.get("Condition")
            if resource["Type"] == kind and (wanted is None or self._condition(wanted)):
                yield self.value(resource["Properties"])

    def value(self, node: Any) -> Any:
        """What a part of the template comes to."""
        if isinstance(node, list):
            found = [self.value(each) for each in node]
            return [each for each in found if each is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name == "Ref":
                return self._values.get(argument, argument)
            function = _FUNCTIONS.get(name)
            if function is not None:
                return function(self, argument)
        members = {name: self.value(each) for name, each in node.items()}
        return {name: each for name, each in members.items() if each is not _NO_VALUE}

    def _condition(self, name: str) -> bool:
        return bool(self.value(self._template["Conditions"][name]))

    def _if(self, argument: list[Any]) -> Any:
        condition, then, otherwise = argument
        return self.value(then if self._condition(condition) else otherwise)

    def _equals(self, argument: list[Any]) -> bool:
        left, right = (str(self.value(each)) for each in argument)
        return left == right

    def _select(self, argument: list[Any]) -> Any:
        place, values = argument
        return self.value(values)[int(place)]

    def _split(self, argument: list[Any]) -> list[str]:
        separator, text = argument
        return str(self.value(text)).split(separator)

    def _sub(self, argument: str | list[Any]) -> str:
        text, more = (argument, {}) if isinstance(argument, str) else argument
        values = {**self._values, **self.value(more)}
        return re.sub(r"\$\{([\w:]+)\}", lambda found: str(values.get(found[1], found[1])), text)

    def _attribute(self, argument: str) -> str:
        """The ARN of a resource of the stack, which all our templates' GetAtt ask for."""
        name, _, attribute = argument.partition(".")
        resource = self._template["Resources"][name]
        build = _ARNS.get(resource["Type"])
        if attribute != "Arn" or build is None:
            return argument
        return str(self._sub(build.format(self.value(resource["Properties"][_NAMES[resource["Type"]]]))))


_NAMES: Final = {"AWS::Lambda::Function": "FunctionName", "AWS::Logs::LogGroup": "LogGroupName"}

_ARNS: Final = {
    "AWS::Lambda::Function": "arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{}",
    "AWS::Logs::LogGroup": "arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:log-group:{}:*",
}

_FUNCTIONS: Final[Mapping[str, Any]] = {
    "Condition": Evaluated._condition,
    "Fn::And": lambda self, argument: all(self.value(each) for each in argument),
    "Fn::Equals": Evaluated._equals,
    "Fn::GetAtt": Evaluated._attribute,
    "Fn::If": Evaluated._if,
    "Fn::Not": lambda self, argument: not self.value(argument[0]),
    "Fn::Select": Evaluated._select,
    "Fn::Split": Evaluated._split,
    "Fn::Sub": Evaluated._sub,
}


def environment_of(evaluated: Evaluated) -> dict[str, str]:
    """The environment variables of the function in a template."""
    (function,) = evaluated.resources("AWS::Lambda::Function")
    return dict(function["Environment"]["Variables"])


def environment_bytes(variables: Mapping[str, str]) -> int:
    """How Lambda measures a function's environment: its JSON, with quotes and escapes.

    The quotas do not say it; the error message does, which shows the "String measured".
    """
    return len(json.dumps(variables, ensure_ascii=False, separators=(",", ":")).encode())


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # it has no types
    """Reads YAML with the short forms of the intrinsic functions."""


@functools.lru_cache
def _parsed(text: str) -> Mapping[str, Any]:
    """A template; it takes a second to read the largest."""
    document: Mapping[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    return document


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)
