"""The suites, as code: which expectations a pipeline must meet, and Great Expectations' verdict on each.

DuckDB computes the frames (`expectations.frames`), Great Expectations judges them, and no more is asked of it: one
checkpoint a frame, in a context that lives as long as the check.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from expectations import gx
from expectations.errors import CheckError

if TYPE_CHECKING:
    import pandas as pd

Suite = Literal["parity", "freshness", "drift"]
SUITES: Final[tuple[Suite, ...]] = ("parity", "freshness", "drift")

SHOWN: Final = 20
"""Values that an outcome names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of a pipeline.

    Attributes:
        parity_warn: share of rows that may disagree before it is a warning.
        parity_fail: before it is a failure.
        fresh_warn_s: seconds that a change may wait for the lake before it is a warning.
        fresh_fail_s: before it is a failure.
        lag_p99_warn_ms: milliseconds within which 99 of 100 changes reach the lake, else it is a warning.
        lag_p99_fail_ms: else it is a failure.
        drift: what a new attribute or type is: "warn", "fail" or "ignore".
    """

    parity_warn: float = 1e-6
    parity_fail: float = 1e-2
    fresh_warn_s: float = 300.0
    fresh_fail_s: float = 3600.0
    lag_p99_warn_ms: float = 5_000.0
    lag_p99_fail_ms: float = 60_000.0
    drift: Literal["warn", "fail", "ignore"] = "warn"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation.

    Attributes:
        suite: the suite, or "own" for the team's own.
        says: the expectation, for people.
        status: "pass", "warn", "fail", or "error" where it could not be judged.
        observed: what was found, for people; empty where it is met or has nothing to tell.
    """

    suite: str
    says: str
    status: Literal["pass", "warn", "fail", "error"]
    observed: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Frames and what is expected of them.

    Attributes:
        frames: the frame's name -> the frame.
        expectations: the frame's name -> expectations of Great Expectations.
        suites: the frame's name -> the suite that its outcomes belong to.
    """

    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    expectations: dict[str, list[Any]] = field(default_factory=dict)
    suites: dict[str, str] = field(default_factory=dict)

    def add(self, frame: str, suite: str, data: pd.DataFrame, expectations: Sequence[Any]) -> None:
        """Expect something of a frame."""
        if expectations:
            self.frames[frame] = data
            self.expectations[frame] = list(expectations)
            self.suites[frame] = suite


def expected_of(suite: Suite, rules: Rules, key: Sequence[str] = ()) -> list[Any]:
    """The expectations of a suite; for "drift" those of the attributes, and with `key` those of the rows.

    Raises:
        CheckError: Great Expectations is not installed.
    """
    gx.load()
    from expectations import vocabulary as words

    match suite:
        case "parity":
            return words.rows_agree(rules.parity_warn, "warning") + words.rows_agree(
                rules.parity_fail, "critical"
            )
        case "freshness":
            return [
                words.no_gap(),
                words.fresh(rules.fresh_warn_s, "warning"),
                words.fresh(rules.fresh_fail_s, "critical"),
                words.lag_below(rules.lag_p99_warn_ms, "warning"),
                words.lag_below(rules.lag_p99_fail_ms, "critical"),
            ]
        case "drift":
            if key:
                return [words.key_never_null(name) for name in key]
            if rules.drift == "ignore":
                return []
            return words.drift("critical" if rules.drift == "fail" else "warning")


def own_expectations(path: Path, pipeline: str) -> list[Any]:
    """A team's own expectations, of the rows of its lake table: what the file's `expectations(pipeline)` gives.

    Raises:
        CheckError: the file cannot be loaded, or gives something else.
    """
    module = gx.load()
    spec = importlib.util.spec_from_file_location(f"dynalake_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CheckError(f"{path} is not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    try:
        spec.loader.exec_module(loaded)
        found = list(loaded.expectations(pipeline))
    except Exception as error:
        raise CheckError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    for each in found:
        if not isinstance(each, module.expectations.Expectation):
            raise CheckError(f"{path}: expectations() gives {type(each).__name__}, not an expectation")
    return found


def judge(plan: Plan, pipeline: str, docs: Path | None = None) -> list[Outcome]:
    """Run a checkpoint over each frame.

    Args:
        plan: the frames and what is expected of them.
        pipeline: the pipeline's name, for Data Docs.
        docs: a folder for Data Docs, made self-contained; none if None.

    Raises:
        CheckError: Great Expectations is not installed.
    """
    module = gx.load()
    context = module.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for name, site in dict(context.variables.data_docs_sites or {}).items():
        context.delete_data_docs_site(name)  # it is in a temporary folder, which nobody would clear away
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    if docs is not None:
        context.add_data_docs_site("published", _site(docs))
    source = context.data_sources.add_pandas("dynalake")
    outcomes: list[Outcome] = []
    for name, frame in plan.frames.items():
        batch = source.add_dataframe_asset(f"{pipeline}-{name}").add_batch_definition_whole_dataframe("all")
        suite = module.ExpectationSuite(name=f"{pipeline}-{name}")
        suite = context.suites.add(suite)
        for each in plan.expectations[name]:
            suite.add_expectation(each)
        validation = module.ValidationDefinition(name=f"{pipeline}-{name}", data=batch, suite=suite)
        checkpoint = module.Checkpoint(
            name=f"{pipeline}-{name}",
            validation_definitions=[context.validation_definitions.add(validation)],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": SHOWN},
        )
        ran = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
        for result in ran.run_results.values():
            outcomes += [_outcome(plan.suites[name], each) for each in result.results]
    if docs is not None:
        from expectations.datadocs import make_self_contained

        context.build_data_docs()
        make_self_contained(docs)
    return outcomes


def _outcome(suite: str, result: Any) -> Outcome:
    config = result.expectation_config
    says = config.description or config.type.replace("_", " ")
    raised = _raised(result.exception_info or {})
    if raised:
        return Outcome(suite, says, "error", raised)
    if result.success:
        return Outcome(suite, says, "pass", _observed(result.result))
    severity = getattr(config.severity, "value", config.severity) or "critical"
    return Outcome(suite, says, "fail" if severity == "critical" else "warn", _observed(result.result))


def _raised(info: Mapping[str, Any]) -> str:
    each = [info] if "raised_exception" in info else list(info.values())
    for one in each:
        if isinstance(one, Mapping) and one.get("raised_exception"):
            return str(one.get("exception_message") or "it could not be judged")
    return ""


def _observed(found: Mapping[str, Any]) -> str:
    values = found.get("partial_unexpected_list")
    if values:
        rest = found.get("unexpected_count", len(values)) - len(values)
        return ", ".join(map(str, values)) + (f" and {rest} more" if rest > 0 else "")
    value = found.get("observed_value")
    if value is None or value != value:
        return ""
    return f"{float(value):.10g}" if isinstance(value, int | float) or hasattr(value, "item") else str(value)


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }
