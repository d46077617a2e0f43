"""Every error keeps what is wrong and what to do apart, and everything that shows an error reads both fields."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

import dynalake.cli
import lake.errors
from dynalake.doctor.checkup import FailedError, Prerequisite, _look
from dynalake.errors import UserError, error_document
from lake.errors import AwsError, ExplainedError, LakeError, SnapshotBusyError, aws_error, explained

ROOT = Path(__file__).parent.parent
PACKAGES = ("ingest", "lake", "queries", "expectations", "dynalake")
SIGNALS = {"CannotFollowError", "NotDirectError", "_NoAnswerError", "NoTrailError", "SkippedError"}
"""Exceptions that one package raises and catches itself; no user sees one as an error."""

ADVICE = re.compile(
    r"[:;.?] (?:or |and |please )?(?:add|allow|ask|call|check|choose|close|compare|copy|create|edit|export|follow|give|"
    r"install|leave|let|log in|lower|make|move|name|pip|put|raise|read|rename|remove|repair|replace|run|see|set|"
    r"shorten|start|stop|switch|take|try|update|use|wait|write|is it|is its|is that|does)\b"
)
"""How advice begins where it is joined to a fault."""
ODD = re.compile(r"\b(mend\w*|is none[.,:]|nobody to|settled|gone on)\b")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def names_of_errors() -> set[str]:
    return {each.__name__ for each in families()}


def families() -> set[type[ExplainedError]]:
    for path, tree in trees():
        if any(isinstance(node, ast.ClassDef) and node.name.endswith("Error") for node in ast.walk(tree)):
            importlib.import_module(".".join(path.with_suffix("").parts))
    found: set[type[ExplainedError]] = {ExplainedError}
    while True:
        more = {child for each in found for child in each.__subclasses__() if _is_ours(child)} - found
        if not more:
            return found
        found |= more


def _is_ours(family: type) -> bool:
    return family.__module__.split(".")[0] in PACKAGES


def drawn() -> dict[str, str | None]:
    """Each class of the drawing in `lake.errors`, and the class that it is drawn below."""
    above: dict[str, str | None] = {}
    at: list[tuple[int, str]] = []
    for line in (lake.errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)\s", line + " ")
        if not found or not (found[2].endswith("Error") or found[2] == "QueryNotFound"):
            continue
        depth = len(found[1])
        at = [each for each in at if each[0] < depth]
        above[found[2]] = at[-1][1] if at else None
        at.append((depth, found[2]))
    return above


def test_one_docstring_draws_the_whole_hierarchy() -> None:
    is_below = {
        each.__name__: None if each is ExplainedError else each.mro()[1].__name__ for each in families()
    }
    assert drawn() == is_below


def test_every_exception_class_is_of_the_hierarchy() -> None:
    known = names_of_errors()
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "NotFound")):
                assert node.name in known | SIGNALS, f"{path}: {node.name}"


@pytest.mark.parametrize("family", sorted(families(), key=str))
def test_every_class_has_the_three_fields(family: type[ExplainedError]) -> None:
    error = family("what is wrong", remedy="what to do")
    assert (error.message, error.remedy, error.exit_code) == ("what is wrong", "what to do", 2)
    assert str(error) == "what is wrong: what to do"
    assert error_document(error) == {"error": "what is wrong", "remedy": "what to do", "exit_code": 2}
    if not issubclass(family, FailedError):  # a prerequisite that fails always has a remedy
        bare = family("what is wrong: with a colon")
        assert (str(bare), bare.remedy) == ("what is wrong: with a colon", "")
        assert error_document(bare)["remedy"] is None


def calls() -> Iterator[tuple[str, ast.Call]]:
    known = names_of_errors()
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in known:
                yield f"{path}:{node.lineno}", node


def text_of(node: ast.expr) -> str:
    """The text of a literal, with X for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) if isinstance(each, ast.Constant) else "X" for each in node.values)
    return " ".join(text_of(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))


def complaints(call: ast.Call) -> Iterator[str]:
    message = text_of(call.args[0]) if call.args else ""
    (remedy,) = [text_of(each.value) for each in call.keywords if each.arg == "remedy"] or [""]
    if ADVICE.search(message):
        yield "the message holds advice, which belongs in the remedy"
    if ODD.search(f"{message} {remedy}"):
        yield "the text is not plain English"
    if (message + remedy).endswith((".", ": ", "; ", "?")):
        yield "it ends with punctuation"


def test_no_message_holds_advice() -> None:
    found = list(calls())
    assert len(found) > 300
    assert not [f"{where}: {complaint}" for where, call in found for complaint in complaints(call)]


@pytest.mark.parametrize(
    "raised",
    [
        "UserError(f'{path} is a folder: give the path of a file')",
        "UserError('there is no key; set DYNALAKE_HASH_KEY')",
        "UserError(f'it does not answer: is {url} its address?' if url else 'x: is that its address')",
        "UserError('nobody to ask', remedy='add --yes')",
    ],
)
def test_a_mixed_message_is_noticed(raised: str) -> None:
    (statement,) = ast.parse(raised).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert list(complaints(statement.value))


def test_no_text_of_an_error_is_cut_apart() -> None:
    """Neither `str(error)` nor a field of an error is split anywhere."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in ("partition", "rpartition", "split", "rsplit"):
                continue
            of = ast.unparse(node.func.value)
            separators = [each.value for each in node.args if isinstance(each, ast.Constant)]
            assert not (
                re.search(r"\b(error|failed|account|finding|found)\b", of)
                and {": ", ":", "; "} & {*separators}
            ), f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_doctor_takes_the_remedy_from_its_field() -> None:
    def fails(error: Exception) -> tuple[str, str]:
        def look() -> str:
            raise error

        check = _look(Prerequisite("source", "anything", look))
        assert check.verdict == "fail"
        return check.detail, check.remedy

    assert fails(UserError("a: b: c", remedy="do: this")) == ("a: b: c", "do: this")
    assert fails(LakeError("no access: Unable to locate credentials")) == (
        "no access: Unable to locate credentials",
        "",
    )
    detail, remedy = fails(botocore.exceptions.NoCredentialsError())
    assert detail == "there are no AWS credentials"
    assert "source.profile" in remedy


def test_an_account_that_cannot_be_opened_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynalake.aws import open_account
    from dynalake.config import SideConfig

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError) as raised:
        open_account("source", SideConfig(account="111111111111", region="eu-west-1"))
    assert "source.profile" in raised.value.remedy
    assert raised.value.remedy not in raised.value.message


REFUSALS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "ResourceNotFoundException",
)


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_call_has_a_remedy(code: str) -> None:
    shown = aws_error(
        ClientError({"Error": {"Code": code, "Message": "said: so"}}, "DescribeTable"), side="lake"
    )
    assert "DescribeTable" in shown.message
    assert code in shown.message
    assert shown.remedy


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("NoCredentialsError", {}),
        ("PartialCredentialsError", {"provider": "env", "cred_var": "AWS_SECRET_ACCESS_KEY"}),
        ("CredentialRetrievalError", {"provider": "sso", "error_msg": "it broke"}),
        ("TokenRetrievalError", {"provider": "sso", "error_msg": "it has expired"}),
        ("UnauthorizedSSOTokenError", {}),
        ("SSOTokenLoadError", {"error_msg": "none"}),
        ("NoRegionError", {}),
        ("ProfileNotFound", {"profile": "nowhere"}),
        ("EndpointConnectionError", {"endpoint_url": "https://example.com"}),
        ("ConnectTimeoutError", {"endpoint_url": "https://example.com"}),
        ("ReadTimeoutError", {"endpoint_url": "https://example.com"}),
        ("ConnectionClosedError", {"endpoint_url": "https://example.com"}),
        ("ProxyConnectionError", {"proxy_url": "http://proxy"}),
        ("SSLError", {"endpoint_url": "https://example.com", "error": "certificate verify failed"}),
    ],
)
def test_an_unreachable_aws_has_a_remedy(name: str, fields: dict[str, str]) -> None:
    shown = aws_error(getattr(botocore.exceptions, name)(**fields), side="source")
    assert isinstance(shown, AwsError)
    assert shown.remedy
    assert "{" not in str(shown)


def test_no_remedy_is_invented() -> None:
    refused = ClientError({"Error": {"Code": "ValidationException", "Message": "x: y"}}, "PutItem")
    assert aws_error(refused).remedy == ""
    assert aws_error(botocore.exceptions.BotoCoreError()).remedy == ""
    assert explained(ValueError("a defect")) is None


def test_the_command_line_prints_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["dynalake", "query", *words])
        with pytest.raises(SystemExit) as ended:
            dynalake.cli.main()
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        return out, err

    out, err = run("no-such-query")
    assert out == ""
    assert err.startswith("dynalake: there is no query 'no-such-query': give the path of a .sql file")
    assert err.count("\n") == 1
    out, err = run("no-such-query", "--json")
    document = json.loads(out)
    assert document.keys() == {"error", "remedy", "exit_code"}
    assert document["error"] == "there is no query 'no-such-query'"
    assert document["remedy"].startswith("give the path of a .sql file")
    assert document["exit_code"] == 2


def test_a_notebook_shows_both() -> None:
    shown = SnapshotBusyError("x: is being\nwritten", remedy="wait for it")._render_traceback_()
    plain = [re.sub("\x1b\\[[0-9;]*m", "", each) for each in shown]
    assert plain == ["SnapshotBusyError: x: is being written", "Remedy: wait for it"]
    assert len(SnapshotBusyError("x")._render_traceback_()) == 1
