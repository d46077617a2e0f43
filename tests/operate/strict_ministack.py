"""ministack with five condition keys and one kind of resource as AWS documents them, run in ministack's environment.

- `dynamodb:LeadingKeys`: the partition key values that a request names (DynamoDB developer guide, "Using IAM
  policy conditions for fine-grained access control"). ministack knows the key not at all, so that a condition on
  it would let everything pass.
- `dynamodb:ReturnValues`: what a request asks to be returned (the same page); there is no key for what a failed
  condition returns. ministack knows neither.
- `aws:PrincipalArn`: of a role's session the role's ARN (IAM user guide, "AWS global condition context keys").
  ministack gives the session's.
- `aws:ResourceAccount`: of a bucket the account that owns it. ministack gives the caller's, so that a condition on it
  would let everything pass.
- `aws:SecureTransport`: true. ministack is reached by plain HTTP, which the quarantine's bucket refuses, where
  AWS's endpoints are reached by HTTPS.
- GetFunctionConcurrency is an action of its own (service authorization reference). ministack takes it for the put.
- GetAccountSettings of Lambda is an action (the same page). ministack allows it to everybody.
- A call to DynamoDB Streams has the stream as its resource (service authorization reference). ministack has `*`.
"""

from __future__ import annotations

import json
import re
import runpy
from typing import Any


def leading_keys(body: bytes, tables: Any) -> list[str]:
    """The partition key values that a request names."""
    try:
        request = json.loads(body)
    except ValueError:
        return []
    if not isinstance(request, dict):
        return []
    table = tables.get(str(request.get("TableName", "")).rpartition("/")[2])
    if table is None:
        return []
    name = table["pk_name"]
    for part in ("Item", "Key"):
        if part in request:
            return [str(next(iter(request[part][name].values())))]
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    found = re.findall(r"(#?\w+)\s*=\s*(:\w+)", request.get("KeyConditionExpression", ""))
    return [str(next(iter(values[value].values()))) for left, value in found if names.get(left, left) == name]


def return_values(body: bytes) -> str:
    """What a request asks to be returned; empty if nothing."""
    try:
        request = json.loads(body)
    except ValueError:
        return ""
    return str(request.get("ReturnValues", "")) if isinstance(request, dict) else ""


def role_of_session(arn: str, roles: Any) -> str:
    """The ARN of the role of which this is a session, with its path; any other ARN as it is."""
    session = re.fullmatch(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+", arn)
    if session is None:
        return arn
    ending = f":iam::{session[2]}:role/"
    for role in roles._data.values():
        if role["RoleName"] == session[3] and ending in role["Arn"]:
            return str(role["Arn"])
    return f"arn:{session[1]}{ending}{session[3]}"


def stream_of(body: bytes, decode: Any) -> str:
    """The ARN of the stream that a request names, itself or by an iterator; empty if none."""
    try:
        request = json.loads(body)
    except ValueError:
        return ""
    if "StreamArn" in request:
        return str(request["StreamArn"])
    iterator = decode(request["ShardIterator"]) if "ShardIterator" in request else None
    return str(iterator["arn"]) if iterator and iterator.get("arn") else ""


def be_strict() -> None:
    """Let ministack evaluate these."""
    from ministack.core import iam_actions, iam_evaluator  # type: ignore[import-not-found]
    from ministack.services import dynamodb, dynamodb_streams, iam, s3  # type: ignore[import-not-found]

    resource_of = iam_actions.extract_resource_arn
    context_of, resolve = iam_actions.dynamodb_service_context, iam_evaluator._resolve_condition_key

    def context_with_leading_keys(body: bytes) -> dict[str, Any]:
        context = dict(context_of(body))
        keys = leading_keys(body, dynamodb._tables)
        if keys:
            context["dynamodb:LeadingKeys"] = keys
        if return_values(body):
            context["dynamodb:ReturnValues"] = return_values(body)
        return {name.lower(): value for name, value in context.items()} | context

    def resolve_as_documented(key: str, context: Any) -> Any:
        if key.lower() == "aws:principalarn":
            return role_of_session(context.principal_arn, iam._roles)
        if key.lower() == "aws:resourceaccount" and context.resource_arn.startswith("arn:aws:s3:::"):
            bucket = context.resource_arn.removeprefix("arn:aws:s3:::").partition("/")[0]
            return s3._bucket_owner_account(bucket) or resolve(key, context)
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    def resource_with_streams(
        service: str, method: str, path: str, headers: Any, body: bytes, *more: Any, **named: Any
    ) -> Any:
        found = resource_of(service, method, path, headers, body, *more, **named)
        stream = service in ("dynamodb", "dynamodbstreams") and stream_of(
            body, dynamodb_streams._decode_iterator
        )
        return stream or found

    lambda_action = iam_actions._lambda_action

    def lambda_action_as_documented(method: str, path: str) -> Any:
        if path.rstrip("/").endswith("/account-settings"):
            return "GetAccountSettings"
        found = lambda_action(method, path)
        return "GetFunctionConcurrency" if (method, found) == ("GET", "PutFunctionConcurrency") else found

    iam_actions._lambda_action = lambda_action_as_documented
    iam_actions.extract_resource_arn = resource_with_streams
    iam_actions.dynamodb_service_context = context_with_leading_keys
    iam_evaluator._resolve_condition_key = resolve_as_documented


if __name__ == "__main__":
    be_strict()
    runpy.run_module("ministack", run_name="__main__")
