"""What the terminal shows of a comparison, within 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefrl.agreement import words
from prefrl.agreement.results import Results
from prefrl.agreement.words import PARAMETERS

LABELLER_COLUMNS = 10  # which leaves room for the rest


def print_results(results: Results, console: Console) -> None:
    """A row per labeller, Krippendorff's α, and the teachers that fit best."""
    console.print(_labellers(results))
    alone = Text(" α: –, as there is one labeller alone\n")
    console.print(_between(results) if results.between else alone)
    console.print(_teachers(results))


def _labellers(results: Results) -> Table:
    table = _table(
        "labeller", "answers", "true\nreturn", "judge", "itself", "left", "s", "equal", "can't\ntell", "skip"
    )
    table.caption = (
        "Per cent; true return, judge, itself: agreement with them, with itself where the sides were swapped; left: on "
        "the screen; s: median seconds per answer."
    )
    for each in results.labellers:
        agreement = [words.percent_and_half(share) for share in each.agreement]
        table.add_row(
            _short(each.short),
            f"{each.habits.answers:,}",
            *(agreement if results.survey.judge else [*agreement, words.NOTHING]),
            words.percent(each.habits.same.value),
            words.percent(each.habits.on_left.value),
            words.seconds(each.habits.seconds[1]),
            *(words.percent(each.habits.choices[name].value) for name in ("equal", "cant_tell", "skip")),
        )
    return table


def _between(results: Results) -> Table:
    table = _table("α", "labellers", "shared\nqueries", "left, equal, right", "left < equal < right")
    for each in results.between:
        alphas = (words.value_and_ends(level) for level in (each.nominal, each.ordinal))
        table.add_row(each.group, str(each.labellers), f"{each.queries:,}", *alphas)
    return table


def _teachers(results: Results) -> Table:
    by = (f"that compares\nthe {scores.name}" for scores in results.survey.scores)
    table = _table("labeller", "best teacher", *by)
    table.columns[1].justify = "left"
    for each in results.labellers:
        for i, (parameter, title) in enumerate(PARAMETERS.items()):
            fitted = (words.value_and_ends(getattr(fit, parameter)) for fit in each.fits)
            table.add_row("" if i else _short(each.short), title, *fitted)
        table.add_section()
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _short(name: str) -> Text:
    text = Text(name)
    text.truncate(LABELLER_COLUMNS, overflow="ellipsis")
    return text
