"""``anomaly suggest``: try sizes and methods on the user's images, and say which to use."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import category_option, complete_names, complete_presets, printable, require_training, set_option

if TYPE_CHECKING:
    from anomaly_teach.suggest import Outcome
    from anomaly_teach.suggest_images import Chosen


@click.command("suggest")
@click.option(
    "--data",
    default="folder",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_names("dataset"),
    help="The data set; your own images: folder.",
)
@category_option
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_names("model"),
    help="A method to try; repeatable. Else all quick ones that are installed.",
)
@click.option(
    "--preset", default="edge", show_default=True, metavar="NAME", shell_complete=complete_presets, help="Of every method."
)
@set_option("An option of every setting")
@click.option(
    "--minutes", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Begin no setting that would take longer."
)
@click.option(
    "--share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.5,
    show_default=True,
    help="Share of the anomalous images that is judged by; the others stay unseen.",
)
@click.option("--synthetic", is_flag=True, help="Judge by synthetic defects, even where there are anomalous images.")
@click.option(
    "--defect-size",
    "sizes",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="PIXELS",
    help="Of synthetic defects, in pixels of the images; repeatable. Else 0.5 to 4 % of the longer side.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws images and synthetic defects.")
@click.option("--output", metavar="DIR", help="Folder for suggest.json, suggest.csv and the list of images that chose.")
def suggest(
    data: str,
    categories: tuple[str, ...],
    models: tuple[str, ...],
    preset: str,
    assignments: tuple[str, ...],
    minutes: float,
    share: float,
    synthetic: bool,
    sizes: tuple[int, ...],
    seed: int,
    output: str | None,
) -> None:
    """Try input sizes, tiles and quick methods on your images, and say which to use.

    Each setting is fitted on the normal images and judged by how many defects it finds: on a share of your anomalous images,
    or, without any, on synthetic defects pasted on normal ones.
    """
    require_training("`anomaly suggest`")
    from anomaly_core import AnomalyError, RunConfig, build_data, is_stop, parse_assignment, progress_bar
    from anomaly_teach.suggest import Trial, command, recommended, tried
    from anomaly_teach.suggest_images import choose, chosen_category
    from anomaly_teach.suggest_settings import quick_models, refuse_chosen, settings

    overrides = dict(map(parse_assignment, assignments))
    refuse_chosen(overrides)
    names = list(dict.fromkeys(models)) or quick_models(preset)
    flags: dict[str, Any] = {"base.seed": seed}
    if categories:
        flags["data.category"] = list(categories)
    configs = {name: RunConfig.create(model=name, data=data, preset=preset, overrides=overrides, flags=flags) for name in names}
    source = build_data(configs[names[0]])
    category = chosen_category(source)
    if synthetic is False and sizes:
        tell("--defect-size: settings are judged by synthetic defects, and not by anomalous images.")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="anomaly-suggest-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        chosen = choose(source, share=share, sizes=sizes, synthetic=synthetic or bool(sizes), folder=folder, seed=seed)
        for note in chosen.notes:
            tell(note)
        planned = settings(list(configs.values()), chosen.sizes)
        trial = Trial(configs, chosen, folder, progress_bar)
        stopped: BaseException | None = None
        try:
            for outcome in tried(planned, trial.outcome, minutes, tell):
                outcomes.append(outcome)
                if outcome.error:
                    tell(f"{outcome.setting.name} failed: {outcome.error}")
        except BaseException as error:
            if not is_stop(error) or not outcomes:
                raise
            stopped = error
    best = recommended(outcomes)
    if best is None:
        raise AnomalyError(f"no setting could be tried. The first: {outcomes[0].error}")
    show(outcomes, chosen, best)
    more = list(assignments)
    if output is not None and (listed := write(outcomes, chosen, best, Path(output))):
        more = [one for one in more if not one.startswith("data.exclude=")] + listed
    call = command(best.setting, data, preset, category if categories else None, more)
    for text in verdict(
        outcomes, best, chosen, configs[names[0]].base.false_alarm_rate, output, len(planned), stopped is not None
    ):
        click.echo(printable(text))
    click.echo(f"\n  {printable(call)}")
    if stopped is not None:
        sys.exit(130)


def tell(text: str) -> None:
    """A line about the progress, on standard error."""
    click.echo(printable(text), err=True)


def show(outcomes: list[Outcome], chosen: Chosen, best: Outcome) -> None:
    """Print the table, a row a setting, the recommended one marked."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    groups = [group for _, group in chosen.judged]
    names = list(dict.fromkeys(groups))
    rate = f"found of {len(groups)}" + (" (synthetic)" if chosen.synthetic else "")
    titles = ["AUROC", rate, *(names if len(names) > 1 else ()), "ms/image", "MB"]
    columns = [Column(escape(printable(title)), justify="right") for title in titles]
    table = Table("", Column("method and input", no_wrap=True), *columns, box=None, padding=(0, 1), header_style="bold")
    for one in outcomes:
        cells = ["failed", *[""] * (len(titles) - 1)]
        if not one.error:
            parts = [f"{count}/{of}" for count, of in one.found_of(groups).values()] if len(names) > 1 else []
            cells = [f"{one.auroc:.3f}", str(sum(one.found)), *parts, f"{one.milliseconds:.0f}", f"{one.megabytes:.1f}"]
        table.add_row("->" if one is best else "", escape(one.setting.name), *cells)
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


def verdict(
    outcomes: list[Outcome], best: Outcome, chosen: Chosen, rate: float, output: str | None, planned: int, stopped: bool
) -> list[str]:
    """What the table says, what it rests on, and what it does not say."""
    texts = [
        f"{best.normal} normal images, each scored by a detector that did not see it, set each threshold, for {100 * rate:g} % "
        "false alarms." + (" With so few, it is their greatest score." if (best.normal + 1) * rate < 1 else "")
    ]
    if chosen.synthetic:
        texts.append(
            "The defects are synthetic: holes, scratches, misplaced patches and stains pasted on normal images that were not "
            "fitted on. They show which sizes a setting can see, not how many real defects it will find."
        )
    else:
        kept = f"{Path(output) / CHOSE} lists them, and the command below leaves them out" if output else "--output lists them"
        texts.append(
            f"{len(chosen.judged)} anomalous images have now chosen a setting: they are no fair test of it any more. {kept}."
        )
    if best.odd:
        more = f"{', '.join(map(repr, best.odd[:3]))}{', ...' * (len(best.odd) > 3)}"
        texts.append(
            f"Normal images that stand out ({len(best.odd)}) raise the threshold of {best.setting.name}: {more}. Look at them: "
            "if they are defective, few defects are found because of them, and the table tells little. The same command with "
            "--set data.drop_suspects=true tries all settings without."
        )
    elif 2 * max(sum(one.found) for one in outcomes) < len(chosen.judged):
        texts.append(
            "Even the best setting finds fewer than half. "
            + ("Give more --minutes, for the settings that were not tried. Else try" if len(outcomes) < planned else "Try")
            + " smaller tiles (data.tile), another method (--model), or pictures that show the defects better."
        )
    if stopped:
        texts.append("Interrupted: settings that were not reached may be better.")
    from anomaly_teach.suggest import alike

    if other := alike(outcomes, best):
        texts.append(
            f"{other.setting.name} takes {other.milliseconds / best.milliseconds:.0%} of the time, and finds "
            f"{sum(other.found)} where {best.setting.name} finds {sum(best.found)}: with so few images, that may be chance."
        )
    texts.append(f"Finds most: {best.setting.name}. To use it:")
    return texts


CHOSE = "chose.txt"


def write(outcomes: list[Outcome], chosen: Chosen, best: Outcome, folder: Path) -> list[str]:
    """Write the table, and the list of images that chose; the assignments that leave these out of a run."""
    import io

    from anomaly_core import RunError, SafeWriter, write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {str(folder)!r}: {error}. Choose another with --output.") from error
    groups = [group for _, group in chosen.judged]
    rows = [{**one.to_dict(groups), "recommended": one is best} for one in outcomes]
    judged = [{"path": str(path), "group": group} for path, group in chosen.judged]
    facts = {"synthetic": chosen.synthetic, "settings": rows, **({} if chosen.synthetic else {"judged": judged})}
    write_whole(folder / "suggest.json", json.dumps(facts, indent=2, ensure_ascii=False).encode())
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    table = SafeWriter(text)
    table.writerow(keys)
    for row in rows:
        table.writerow("" if row.get(key) is None else row[key] for key in keys)
    write_whole(folder / "suggest.csv", text.getvalue().encode())
    if chosen.synthetic:
        return []
    lines = [*chosen.excluded, *(path.absolute() for path, _ in chosen.judged)]
    write_whole(folder / CHOSE, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return [f"data.exclude={folder / CHOSE}"]
