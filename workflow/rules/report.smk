# Needs:  samples, features, scores and LoRAs' logs of all cultures; the survey's statistics, if there are any
# Leaves: {results}/table1.csv, {results}/table2.csv          the paper's tables, its own figures beside ours
#         {results}/figures/fig5.svg                          ranks given in the survey
#         {results}/{culture}/figures/{fig6,fig8,samples}.png learnt by heart; prompts that name no culture;
#                                                             test prompts, variants side by side
#         {results}/{culture}/figures/{set}.png               the same of a further set of prompts
#         {results}/{culture}/figures/kid_power.svg           how many pictures KID needs
#         {results}/figures/fig7.svg                          KID against the length of training
#         {results}/report.html                               one self-contained page
#         {results}/sbom.cdx.json, licences.md                (on request) the software behind the run
from pipeline_steps.config.runs import fig7_lines, fig7_name
from pipeline_steps.drawing import paper

BESIDE = tuple(variant for variant in BASELINES if variant in SETTINGS.score.variants)
"""Baselines that the tables hold beside the paper's variants."""
TABLES = {
    "1": ((*paper.TABLES[1], *BESIDE), "runs/coco_prompts/"),
    "2": ((*paper.TABLES[2], *BESIDE), "runs/train_prompts/"),
}
"""Each of the paper's tables: its variants, and the run with its other prompts."""
SHEETS = {
    "samples": ("", SETTINGS.score.variants, "clip_score"),
    "fig6": ("runs/train_prompts/", ("ldm", "scoft_m"), "dreamsim"),
    "fig8": ("runs/generic_prompts/", ("sd", "ldm", FULL_VARIANT), "div"),
}
"""Each contact sheet: its run, its variants, and the score above them."""
SHEETS |= {
    name: (f"runs/{name}/", SETTINGS.score.variants, "clip_score") for name in SETTINGS.evaluation.prompt_sets
}
INCLUDED = {
    "table1": [f"{RESULTS}/table1.csv"],
    "table2": [f"{RESULTS}/table2.csv"],
    "fig5": [f"{RESULTS}/figures/fig5.svg"],
    "fig6": of_cultures("figures/fig6.png"),
    "fig7": [f"{RESULTS}/figures/fig7.svg"],
    "fig8": of_cultures("figures/fig8.png"),
    "kid_power": of_cultures("figures/kid_power.svg"),
    "bleed": [f"{RESULTS}/bleed.csv"],
}


def of_sets(name, **wildcards):
    """One file of every further set of prompts, of every culture that draws it."""
    paths = [
        f"{RESULTS}/{culture}/runs/{prompt_set}/{name}"
        for prompt_set, named in SETTINGS.evaluation.prompt_sets.items()
        for culture in named.cultures or CULTURES
    ]
    return expand(paths, **wildcards)


def shown(ending):
    """The paper's tables (csv) or figures that the settings ask for."""
    paths = [path for name in SETTINGS.report.include for path in INCLUDED[name]]
    return [path for path in paths if path.endswith(ending)]


def table_scores(wildcards, other=False):
    """The scores of a table's variants on the test prompts, or on its other prompts."""
    variants, run = TABLES[wildcards.number]
    return of_cultures(f"{run if other else ''}scores/{{variant}}.parquet", variant=variants)


def table_statistics(wildcards):
    """Table 1 has the survey's mean ranks, once somebody has answered."""
    return f"{SURVEY}/statistics.parquet" if wildcards.number == "1" and collected() else []


def on_sheet(kind):
    """The samples or scores of a contact sheet's variants."""

    def of(wildcards):
        run, variants, _ = SHEETS[wildcards.sheet]
        return expand(f"{RESULTS}/{wildcards.culture}/{run}{kind}/{{variant}}.parquet", variant=variants)

    return of


def answers_drawn(wildcards):
    """Answers of people; while there are none, of simulated participants."""
    return f"{SURVEY}/answers.parquet" if collected() else f"{SURVEY}/simulated/answers.parquet"


def fig7_scores(wildcards):
    """Every point of every line, of every culture over which Fig. 7 takes the mean."""
    if min(SETTINGS.evaluation.fig7_updates) <= SETTINGS.train.warmup:
        raise WorkflowError("evaluation.fig7_updates: every length must be more than train.warmup")
    return expand(
        f"{RESULTS}/{{culture}}/runs/{{run}}/scores/{FULL_VARIANT}.parquet",
        culture=SETTINGS.evaluation.fig7_cultures or CULTURES,
        run=[
            fig7_name(extractor, record, updates)
            for extractor, record in fig7_lines(SETTINGS)
            for updates in SETTINGS.evaluation.fig7_updates
        ],
    )


rule paper_table:
    input:
        scores=table_scores,
        set_scores=lambda wildcards: table_scores(wildcards, other=True),
        statistics=table_statistics,
    output:
        table=report(
            f"{RESULTS}/table{{number}}.csv",
            caption="../report/paper_table.rst",
            category="Tables",
            labels={"result": "Table {number}"},
        ),
    log:
        f"{RESULTS}/logs/table{{number}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/table{{number}}.tsv"
    wildcard_constraints:
        number="1|2",
    localrule: not SHARED
    conda:
        "../../envs/pipeline.yaml"
    params:
        statistics=lambda wildcards, input: optional("--statistics", input.statistics),
    shell:
        """
        python -m pipeline_steps.report.paper_table \
            --number {wildcards.number:q} \
            --scores {input.scores:q} \
            --set-scores {input.set_scores:q} \
            {params.statistics:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """


rule contact_sheet:
    input:
        samples=on_sheet("samples"),
        scores=on_sheet("scores"),
        images=lambda wildcards: f"{RESULTS}/{{culture}}/images.parquet" if wildcards.sheet == "fig6" else [],
    output:
        sheet=report(
            f"{RESULTS}/{{culture}}/figures/{{sheet}}.png",
            caption="../report/contact_sheet.rst",
            category="Figures",
            subcategory="{culture}",
            labels={"result": "{sheet}"},
        ),
    log:
        f"{RESULTS}/logs/{{culture}}/contact_sheet_{{sheet}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/contact_sheet_{{sheet}}.tsv"
    wildcard_constraints:
        sheet="|".join(SHEETS),
    conda:
        "../../envs/pipeline.yaml"
    params:
        images=lambda wildcards, input: optional("--images", input.images),
        metric=lambda wildcards: SHEETS[wildcards.sheet][2],
        prompts=5,
        per_prompt=4,
        side=SETTINGS.report.thumbnail,
    shell:
        """
        python -m pipeline_steps.report.contact_sheet \
            --samples {input.samples:q} \
            --scores {input.scores:q} \
            --metric {params.metric} \
            --sheet {output.sheet:q} \
            --prompts {params.prompts} \
            --per-prompt {params.per_prompt} \
            --side {params.side} \
            {params.images:q} \
            2>&1 | tee {log:q}
        """


rule fig5:
    input:
        answers=answers_drawn,
    output:
        chart=report(
            f"{RESULTS}/figures/fig5.svg",
            caption="../report/fig5.rst",
            category="Figures",
            subcategory="all cultures",
            labels={"result": "Fig. 5: ranks given in the survey"},
        ),
    log:
        f"{RESULTS}/logs/fig5.log",
    benchmark:
        f"{RESULTS}/benchmarks/fig5.tsv"
    # It asks whether people have answered, as table 1 does: only the machine that plans can tell.
    localrule: not SHARED
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.fig5 \
            --answers {input.answers:q} \
            --chart {output.chart:q} \
            2>&1 | tee {log:q}
        """


rule fig7:
    input:
        scores=fig7_scores,
    output:
        chart=report(
            f"{RESULTS}/figures/fig7.svg",
            caption="../report/fig7.rst",
            category="Figures",
            subcategory="all cultures",
            labels={"result": "Fig. 7: KID against the length of training"},
        ),
        table=f"{RESULTS}/figures/fig7.csv",
    log:
        f"{RESULTS}/logs/fig7.log",
    benchmark:
        f"{RESULTS}/benchmarks/fig7.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.fig7 \
            --scores {input.scores:q} \
            --chart {output.chart:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """


rule kid_power:
    input:
        samples=f"{RESULTS}/{{culture}}/samples/sd.parquet",
        features=expand(
            f"{RESULTS}/{{{{culture}}}}/features/{{variant}}.safetensors", variant=tuple(paper.TABLES[1])
        ),
        images=f"{RESULTS}/{{culture}}/images.parquet",
        reference=f"{RESULTS}/{{culture}}/features/images.safetensors",
    output:
        chart=report(
            f"{RESULTS}/{{culture}}/figures/kid_power.svg",
            caption="../report/kid_power.rst",
            category="Figures",
            subcategory="{culture}",
            labels={"result": "Power of KID"},
        ),
        table=f"{RESULTS}/{{culture}}/figures/kid_power.csv",
    log:
        f"{RESULTS}/logs/{{culture}}/kid_power.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/kid_power.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
    shell:
        """
        python -m pipeline_steps.report.kid_power \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --chart {output.chart:q} \
            --table {output.table:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            2>&1 | tee {log:q}
        """


rule report:
    input:
        template=[*page("page"), place("resources/report/sets.html")],
        style=PAGE_STYLE,
        images=of_cultures("images.parquet"),
        depth=of_cultures("depth.parquet"),
        negatives=of_cultures("negatives.parquet") if SETTINGS.report.negatives else [],
        distances=of_cultures("distances.parquet"),
        samples=of_cultures("samples/{variant}.parquet", variant=SETTINGS.score.variants),
        features=of_cultures("features/{variant}.safetensors", variant=SETTINGS.score.variants),
        references=of_cultures("features/images.safetensors"),
        scores=of_cultures("scores.parquet"),
        train_logs=of_cultures("train_log.parquet"),
        set_samples=of_sets("samples/{variant}.parquet", variant=SETTINGS.score.variants),
        set_scores=of_sets("scores.parquet"),
        breakdowns=[*of_cultures("breakdown.parquet"), *of_sets("breakdown.parquet")],
        tables=shown(".csv"),
        figures=shown((".svg", ".png")),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Overview",
            labels={"result": "The whole run on one page"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        negatives=lambda wildcards, input: ["--negatives", *input.negatives] if input.negatives else [],
        tables=lambda wildcards, input: ["--tables", *input.tables] if input.tables else [],
        figures=lambda wildcards, input: ["--figures", *input.figures] if input.figures else [],
        set_samples=lambda wildcards, input: (
            ["--set-samples", *input.set_samples] if input.set_samples else []
        ),
        set_scores=lambda wildcards, input: ["--set-scores", *input.set_scores] if input.set_scores else [],
        settings=SETTINGS.model_dump_json(),
    shell:
        """
        python -m pipeline_steps.report.report \
            --page {output.page:q} \
            --template {input.template[0]:q} \
            --style {input.style:q} \
            --images {input.images:q} \
            --depth {input.depth:q} \
            {params.negatives:q} \
            --distances {input.distances:q} \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --references {input.references:q} \
            --scores {input.scores:q} \
            --train-logs {input.train_logs:q} \
            {params.tables:q} \
            {params.figures:q} \
            {params.set_samples:q} \
            {params.set_scores:q} \
            --breakdowns {input.breakdowns:q} \
            --settings {params.settings:q} \
            2>&1 | tee {log:q}
        """


rule sbom:
    input:
        lock=place("envs/requirements.lock"),
    output:
        inventory=f"{RESULTS}/sbom.cdx.json",
        table=f"{RESULTS}/licences.md",
    log:
        f"{RESULTS}/logs/sbom.log",
    benchmark:
        f"{RESULTS}/benchmarks/sbom.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.sbom \
            --lock {input.lock:q} \
            --inventory {output.inventory:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """
