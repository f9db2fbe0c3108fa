# Needs:  samples/{variant}.parquet of the surveyed variants; then a folder of collected answers
# Leaves: {results}/survey/{culture}/pages.parquet, forms.parquet   which picture stands where, who sees what
#         {results}/survey/{culture}/rounds/                        the same of every round, without the pictures
#         {results}/survey/{culture}/survey.html                    the page participants open
#         {results}/survey/{culture}/judged.parquet                 a model's answers to the same pages
#         {results}/survey/answers.parquet, rejected.parquet        good answers, and what is wrong with the others
#         {results}/survey/{votes,consensus,skills,statistics}.parquet
#         {results}/survey/people.html                              how many people to ask, before anybody has answered
#         {results}/survey/power.parquet                            how often simulated crowds find the truth
#         {results}/survey/report.html                              all of it in plain words
#         {results}/survey/agreement.{html,parquet}                 judge and scores beside people
#         {results}/survey/simulated/…                              the same from simulated participants


SURVEYED = list(SETTINGS.survey.cultures) or CULTURES


wildcard_constraints:
    survey="survey(/simulated)?",


def answers_folder(wildcards, input):
    """Of people's answers the folder above all of them."""
    return (
        place(SETTINGS.survey.answers) if wildcards.survey == "survey" else str(Path(input.files[0]).parent)
    )


def codes_file(wildcards):
    """The codes that were handed out; simulated people have none."""
    return [place(path) for path in [SETTINGS.survey.codes] if path and wildcards.survey == "survey"]


def answer_files(wildcards):
    """The collected files, so that a new or changed one is noticed."""
    if wildcards.survey != "survey":
        return [f"{SURVEY}/simulated/collected/simulated.parquet"]
    if not collected():
        folder = SETTINGS.survey.answers
        raise WorkflowError(f"survey.answers: no file in {folder}; put the collected answers there")
    return collected()


def answers_if_any(wildcards):
    """People's checked answers; while there are none, the judge stays unchecked."""
    asked = wildcards.survey != "survey" or collected()
    return f"{RESULTS}/{wildcards.survey}/answers.parquet" if asked else []


def kept_rounds(culture):
    """Where the keys to a culture's rounds stay: no output, Snakemake would delete them."""
    return moved(f"{SURVEY}/{culture}/rounds")


def chosen_rounds(wildcards):
    """The earlier rounds that are summed up, by culture; of simulated answers there are none."""
    rounds = SETTINGS.survey.rounds if wildcards.survey == "survey" else {}
    chosen = {
        name: Path(f"{kept_rounds(name)}/{rounds[name]}.parquet") for name in SURVEYED if name in rounds
    }
    for name, path in chosen.items():
        if not path.is_file():
            there = ", ".join(sorted(found.stem for found in path.parent.glob("*.parquet"))) or "none"
            raise WorkflowError(
                f"survey.rounds.{name}: {path.parent} has no round {path.stem} (there are: {there})"
            )
    return chosen


def asked_pages(wildcards):
    """The present pages of every culture of which no earlier round is summed up."""
    chosen = chosen_rounds(wildcards)
    return [f"{SURVEY}/{culture}/pages.parquet" for culture in SURVEYED if culture not in chosen]


rule survey_pages:
    input:
        samples=expand(
            f"{RESULTS}/{{{{culture}}}}/samples/{{variant}}.parquet",
            variant=SETTINGS.survey.variants,
        ),
    output:
        pages=f"{SURVEY}/{{culture}}/pages.parquet",
        forms=f"{SURVEY}/{{culture}}/forms.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/survey_pages.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/survey_pages.tsv"
    # What is not moved to a storage stays where the run was started.
    localrule: not SHARED
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
        rounds=lambda wildcards: kept_rounds(wildcards.culture),
        config=section("survey", "variants", "pages", "pages_per_participant", "attention_checks"),
    shell:
        """
        python -m pipeline_steps.survey.survey_pages \
            --samples {input.samples:q} \
            --pages {output.pages:q} \
            --forms {output.forms:q} \
            --rounds {params.rounds:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule survey_html:
    input:
        pages=f"{SURVEY}/{{culture}}/pages.parquet",
        forms=f"{SURVEY}/{{culture}}/forms.parquet",
        wordings=[place(path) for path in SETTINGS.survey.wordings],
        translations=[place(path) for path in [SETTINGS.survey.translations] if path],
        template=place("resources/survey/page.html"),
        style=place("resources/web/form.css"),
        script=place("resources/web/form.js"),
    output:
        survey=f"{SURVEY}/{{culture}}/survey.html",
    log:
        f"{RESULTS}/logs/{{culture}}/survey_html.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/survey_html.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        name=shown_name,
        translations=lambda wildcards, input: optional("--translations", input.translations),
        config=section("survey", "min_years", "jpeg_quality"),
    shell:
        """
        python -m pipeline_steps.survey.survey_html \
            --pages {input.pages:q} \
            --forms {input.forms:q} \
            --wordings {input.wordings:q} {params.translations:q} \
            --template {input.template:q} \
            --style {input.style:q} \
            --script {input.script:q} \
            --survey {output.survey:q} \
            --culture {wildcards.culture:q} \
            --name {params.name:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule judge:
    input:
        pages=f"{SURVEY}/{{culture}}/pages.parquet",
        wording=place(SETTINGS.survey.wordings[0]),
    output:
        answers=f"{SURVEY}/{{culture}}/judged.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/judge.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/judge.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        seed=seed,
        model=optional("--model", SETTINGS.models.judge and model("judge")),
        oracle=optional("--oracle", not SETTINGS.models.judge and SETTINGS.models.oracle and model("oracle")),
        config=section("survey", "judge"),
    shell:
        """
        python -m pipeline_steps.survey.judge \
            --pages {input.pages:q} \
            --wording {input.wording:q} \
            --answers {output.answers:q} \
            --culture {wildcards.culture:q} \
            --seed {params.seed} \
            {params.model:q} \
            {params.oracle:q} \
            --config {params.config:q} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule survey_simulate:
    input:
        pages=expand(f"{SURVEY}/{{culture}}/pages.parquet", culture=SURVEYED),
        forms=expand(f"{SURVEY}/{{culture}}/forms.parquet", culture=SURVEYED),
    output:
        answers=f"{SURVEY}/simulated/collected/simulated.parquet",
    log:
        f"{RESULTS}/logs/survey/simulate.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey/simulate.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
        config=section(
            "survey",
            "variants",
            "simulation.participants",
            "simulation.strengths",
            "simulation.careless",
            "simulation.adversarial",
        ),
    shell:
        """
        python -m pipeline_steps.survey.survey_simulate \
            --pages {input.pages:q} \
            --forms {input.forms:q} \
            --answers {output.answers:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule survey_import:
    input:
        files=answer_files,
        codes=codes_file,
        pages=asked_pages,
    output:
        answers=f"{RESULTS}/{{survey}}/answers.parquet",
        rejected=f"{RESULTS}/{{survey}}/rejected.parquet",
    log:
        f"{RESULTS}/logs/{{survey}}/import.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{survey}}/import.tsv"
    localrule: not SHARED
    conda:
        "../../envs/pipeline.yaml"
    params:
        folder=answers_folder,
        codes=lambda wildcards, input: optional("--codes", input.codes),
        pages=lambda wildcards, input: [*input.pages, *chosen_rounds(wildcards).values()],
        survey=moved(SURVEY),
        config=section("survey", "min_years", "failed_checks"),
    shell:
        """
        python -m pipeline_steps.survey.survey_import \
            --folder {params.folder:q} {params.codes:q} \
            --pages {params.pages:q} \
            --survey {params.survey:q} \
            --answers {output.answers:q} \
            --rejected {output.rejected:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule survey_aggregate:
    input:
        answers=f"{RESULTS}/{{survey}}/answers.parquet",
    output:
        votes=f"{RESULTS}/{{survey}}/votes.parquet",
        consensus=f"{RESULTS}/{{survey}}/consensus.parquet",
        skills=f"{RESULTS}/{{survey}}/skills.parquet",
        statistics=f"{RESULTS}/{{survey}}/statistics.parquet",
    log:
        f"{RESULTS}/logs/{{survey}}/aggregate.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{survey}}/aggregate.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
    shell:
        """
        python -m pipeline_steps.survey.survey_aggregate \
            --answers {input.answers:q} \
            --votes {output.votes:q} \
            --consensus {output.consensus:q} \
            --skills {output.skills:q} \
            --statistics {output.statistics:q} \
            --seed {params.seed} \
            2>&1 | tee {log:q}
        """


rule survey_power:
    output:
        power=f"{SURVEY}/power.parquet",
    log:
        f"{RESULTS}/logs/survey/power.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey/power.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
        config=section(
            "survey",
            "variants",
            "pages_per_participant",
            "simulation.strengths",
            "simulation.power_participants",
            "simulation.power_careless",
            "simulation.power_adversarial",
            "simulation.power_trials",
        ),
    shell:
        """
        python -m pipeline_steps.survey.survey_power \
            --power {output.power:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule survey_people:
    output:
        page=f"{SURVEY}/people.html",
    log:
        f"{RESULTS}/logs/survey/people.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey/people.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        seed=seed,
        config=section(
            "survey",
            "variants",
            "pages_per_participant",
            "simulation.power_careless",
            "simulation.difference",
            "simulation.chance",
        ),
    shell:
        """
        python -m pipeline_steps.survey.survey_people \
            --page {output.page:q} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule survey_report:
    input:
        template=page("survey"),
        style=PAGE_STYLE,
        answers=f"{RESULTS}/{{survey}}/answers.parquet",
        rejected=f"{RESULTS}/{{survey}}/rejected.parquet",
        votes=f"{RESULTS}/{{survey}}/votes.parquet",
        consensus=f"{RESULTS}/{{survey}}/consensus.parquet",
        skills=f"{RESULTS}/{{survey}}/skills.parquet",
        statistics=f"{RESULTS}/{{survey}}/statistics.parquet",
        power=f"{SURVEY}/power.parquet",
    output:
        report=f"{RESULTS}/{{survey}}/report.html",
    log:
        f"{RESULTS}/logs/{{survey}}/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{survey}}/report.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        names=[SETTINGS.cultures[culture].name or culture for culture in SURVEYED],
        cultures=SURVEYED,
    shell:
        """
        python -m pipeline_steps.survey.survey_report \
            --template {input.template[0]:q} \
            --style {input.style:q} \
            --answers {input.answers:q} \
            --rejected {input.rejected:q} \
            --votes {input.votes:q} \
            --consensus {input.consensus:q} \
            --skills {input.skills:q} \
            --statistics {input.statistics:q} \
            --power {input.power:q} \
            --report {output.report:q} \
            --cultures {params.cultures:q} \
            --names {params.names:q} \
            2>&1 | tee {log:q}
        """


rule agreement:
    input:
        template=page("agreement"),
        style=PAGE_STYLE,
        judged=expand(f"{SURVEY}/{{culture}}/judged.parquet", culture=SURVEYED),
        scores=expand(
            f"{RESULTS}/{{culture}}/scores/{{variant}}.parquet",
            culture=SURVEYED,
            variant=SETTINGS.survey.variants,
        ),
        answers=answers_if_any,
    output:
        agreement=f"{RESULTS}/{{survey}}/agreement.parquet",
        report=f"{RESULTS}/{{survey}}/agreement.html",
    log:
        f"{RESULTS}/logs/{{survey}}/agreement.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{survey}}/agreement.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        answers=lambda wildcards, input: optional("--answers", input.answers),
        names=[SETTINGS.cultures[culture].name or culture for culture in SURVEYED],
        cultures=SURVEYED,
    shell:
        """
        python -m pipeline_steps.survey.agreement \
            --template {input.template[0]:q} \
            --style {input.style:q} \
            --judged {input.judged:q} \
            --scores {input.scores:q} \
            {params.answers:q} \
            --agreement {output.agreement:q} \
            --report {output.report:q} \
            --cultures {params.cultures:q} \
            --names {params.names:q} \
            2>&1 | tee {log:q}
        """
