# Needs:  images.parquet, lora.safetensors of the variants
# Leaves: {results}/{culture}/samples/{variant}.parquet       pictures of the test prompts
#         {results}/{culture}/features/{variant}.safetensors  what each network sees in them
#         {results}/{culture}/scores/{variant}.parquet        every score with its interval
#         {results}/{culture}/scores.parquet                  those of the configured variants
#         {results}/{culture}/runs/{prompt_set}/…             the same for other prompts: training captions,
#                                                             MS-COCO captions, prompts that name no culture
#         {results}/table1.csv, {results}/table2.csv          the paper's tables, its own figures beside ours
#         {results}/figures/fig5.svg                          ranks given in the survey
#         {results}/{culture}/figures/{fig6,fig8}.png         learnt by heart; prompts that name no culture
#         {results}/{culture}/figures/samples.png             test prompts, variants side by side
#         {results}/{culture}/figures/kid_power.svg           how many pictures KID needs
#         {results}/figures/fig7.svg                          KID against the length of training


rule sample:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=prompts_file,
        lora=lora_of,
    output:
        samples=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/sample_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/sample_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        lora=lambda wildcards, input: optional("--lora", input.lora),
        suffix=lambda wildcards: optional("--suffix", suffix(wildcards)),
        seed=SETTINGS.seed,
        base=model("base"),
        config=section("sample"),
        shard=[1, 1],
    shell:
        """
        python -m pipeline_steps.evaluation.sample \
            --images {input.images:q} \
            --prompts {input.prompts:q} \
            {params.lora:q} \
            --samples {output.samples:q} \
            --culture {wildcards.culture:q} \
            {params.suffix:q} \
            --seed {params.seed} \
            --base {params.base:q} \
            --config {params.config:q} \
            --shard {params.shard} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


rule features:
    input:
        pictures=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/features/images.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_images.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_images.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        kind=lambda wildcards, input: "images" if Path(input.pictures).name == "images.parquet" else "samples",
        clip=model("clip"),
        inception=model("inception"),
        dino=model("dino"),
        dreamsim=model("dreamsim"),
        oracle=optional("--oracle", SETTINGS.models.oracle and model("oracle")),
        batch_size=SETTINGS.score.batch_size,
    shell:
        """
        python -m pipeline_steps.evaluation.features \
            --pictures {input.pictures:q} \
            --features {output.features:q} \
            --kind {params.kind} \
            --clip {params.clip:q} \
            --inception {params.inception:q} \
            --dino {params.dino:q} \
            --dreamsim {params.dreamsim:q} \
            {params.oracle:q} \
            --batch-size {params.batch_size} \
            --threads {threads} \
            --gpus {resources.gpu} \
            2>&1 | tee {log:q}
        """


use rule features as features_samples with:
    input:
        pictures=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/features/{{variant}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_{{variant}}.tsv"


rule score:
    input:
        samples=f"{RESULTS}/{{culture}}/samples/{{variant}}.parquet",
        features=f"{RESULTS}/{{culture}}/features/{{variant}}.safetensors",
        images=f"{RESULTS}/{{culture}}/images.parquet",
        reference=f"{RESULTS}/{{culture}}/features/images.safetensors",
    output:
        scores=f"{RESULTS}/{{culture}}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/score_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/score_{{variant}}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        variant="{variant}",
        config=section("score"),
    shell:
        """
        python -m pipeline_steps.evaluation.score \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --scores {output.scores:q} \
            --variant {params.variant:q} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


rule merge_scores:
    input:
        parts=expand(f"{RESULTS}/{{{{culture}}}}/scores/{{variant}}.parquet", variant=SETTINGS.score.variants),
    output:
        scores=f"{RESULTS}/{{culture}}/scores.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/merge_scores.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/merge_scores.tsv"
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.evaluation.merge_scores \
            --parts {input.parts:q} \
            --scores {output.scores:q} \
            2>&1 | tee {log:q}
        """


# --- other prompts: the same samples, features and scores under runs/{prompt_set} ---


wildcard_constraints:
    prompt_set="train_prompts|coco_prompts|generic_prompts",


rule train_prompts:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        prompts=f"{RESULTS}/{{culture}}/runs/train_prompts/prompts.txt",
    log:
        f"{RESULTS}/logs/{{culture}}/train_prompts.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/train_prompts.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        total=SETTINGS.evaluation.train_prompts,
        seed=SETTINGS.seed,
    shell:
        """
        python -m pipeline_steps.evaluation.train_prompts \
            --images {input.images:q} \
            --prompts {output.prompts:q} \
            --culture {wildcards.culture:q} \
            --count {params.total} \
            --seed {params.seed} \
            2>&1 | tee {log:q}
        """


rule coco:
    input:
        folder=lambda wildcards: str(not_drawn(SETTINGS.evaluation.coco, "evaluation.coco")),
    output:
        images=f"{COCO}/images.parquet",
        prompts=f"{COCO}/prompts.txt",
    log:
        f"{RESULTS}/logs/reference/coco.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/coco.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        total=SETTINGS.evaluation.coco_pictures,
        seed=SETTINGS.seed,
        config=section("data"),
    shell:
        """
        python -m pipeline_steps.data.coco \
            --folder {input.folder:q} \
            --images {output.images:q} \
            --prompts {output.prompts:q} \
            --count {params.total} \
            --seed {params.seed} \
            --config {params.config:q} \
            2>&1 | tee {log:q}
        """


use rule features as features_coco with:
    input:
        pictures=f"{COCO}/images.parquet",
    output:
        features=f"{COCO}/features.safetensors",
    log:
        f"{RESULTS}/logs/reference/features.log",
    benchmark:
        f"{RESULTS}/benchmarks/reference/features.tsv"


use rule sample as sample_set with:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=set_prompts,
        lora=lora_of,
    output:
        samples=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/sample_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/sample_{{prompt_set}}_{{variant}}.tsv"
    params:
        suffix=[],
        config=set_config,


use rule features as features_set with:
    input:
        pictures=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
    output:
        features=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/features/{{variant}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/features_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/features_{{prompt_set}}_{{variant}}.tsv"


use rule score as score_set with:
    input:
        samples=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/samples/{{variant}}.parquet",
        features=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/features/{{variant}}.safetensors",
        images=set_images,
        reference=set_reference,
    output:
        scores=f"{RESULTS}/{{culture}}/runs/{{prompt_set}}/scores/{{variant}}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/score_{{prompt_set}}_{{variant}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/score_{{prompt_set}}_{{variant}}.tsv"


# --- the paper's tables ---


rule table1:
    input:
        scores=all_scores("scores", TABLE1),
        set_scores=all_scores("runs/coco_prompts/scores", TABLE1),
        statistics=ranks_of_people,
    output:
        table=report(
            f"{RESULTS}/table1.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"result": "Table 1: KID, CLIPScore, survey"},
        ),
    log:
        f"{RESULTS}/logs/table1.log",
    benchmark:
        f"{RESULTS}/benchmarks/table1.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        number=1,
        statistics=lambda wildcards, input: optional("--statistics", input.statistics),
    shell:
        """
        python -m pipeline_steps.report.paper_table \
            --number {params.number} \
            --scores {input.scores:q} \
            --set-scores {input.set_scores:q} \
            {params.statistics:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """


use rule table1 as table2 with:
    input:
        scores=all_scores("scores", TABLE2),
        set_scores=all_scores("runs/train_prompts/scores", TABLE2),
    output:
        table=report(
            f"{RESULTS}/table2.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"result": "Table 2: memorisation"},
        ),
    log:
        f"{RESULTS}/logs/table2.log",
    benchmark:
        f"{RESULTS}/benchmarks/table2.tsv"
    params:
        number=2,
        statistics=[],


# --- figures ---


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
    conda:
        "../../envs/pipeline.yaml"
    shell:
        """
        python -m pipeline_steps.report.fig5 \
            --answers {input.answers:q} \
            --chart {output.chart:q} \
            2>&1 | tee {log:q}
        """


rule fig6:
    input:
        samples=expand(
            f"{RESULTS}/{{{{culture}}}}/runs/train_prompts/samples/{{variant}}.parquet", variant=TABLE2
        ),
        scores=expand(
            f"{RESULTS}/{{{{culture}}}}/runs/train_prompts/scores/{{variant}}.parquet", variant=TABLE2
        ),
        images=f"{RESULTS}/{{culture}}/images.parquet",
    output:
        sheet=report(
            f"{RESULTS}/{{culture}}/figures/fig6.png",
            caption="../report/fig6.rst",
            category="Figures",
            subcategory="{culture}",
            labels={"result": "Fig. 6: learnt by heart?"},
        ),
    log:
        f"{RESULTS}/logs/{{culture}}/fig6.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig6.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        images=lambda wildcards, input: optional("--images", input.images),
        metric="dreamsim",
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


use rule fig6 as fig8 with:
    input:
        samples=expand(
            f"{RESULTS}/{{{{culture}}}}/runs/generic_prompts/samples/{{variant}}.parquet", variant=FIG8
        ),
        scores=expand(
            f"{RESULTS}/{{{{culture}}}}/runs/generic_prompts/scores/{{variant}}.parquet", variant=FIG8
        ),
    output:
        sheet=report(
            f"{RESULTS}/{{culture}}/figures/fig8.png",
            caption="../report/fig8.rst",
            category="Figures",
            subcategory="{culture}",
            labels={"result": "Fig. 8: prompts that name no culture"},
        ),
    log:
        f"{RESULTS}/logs/{{culture}}/fig8.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig8.tsv"
    params:
        images=[],
        metric="div",


use rule fig6 as samples_sheet with:
    input:
        samples=expand(
            f"{RESULTS}/{{{{culture}}}}/samples/{{variant}}.parquet", variant=SETTINGS.score.variants
        ),
        scores=expand(
            f"{RESULTS}/{{{{culture}}}}/scores/{{variant}}.parquet", variant=SETTINGS.score.variants
        ),
    output:
        sheet=report(
            f"{RESULTS}/{{culture}}/figures/samples.png",
            caption="../report/samples.rst",
            category="Figures",
            subcategory="{culture}",
            labels={"result": "Samples of the test prompts"},
        ),
    log:
        f"{RESULTS}/logs/{{culture}}/samples_sheet.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/samples_sheet.tsv"
    params:
        images=[],
        metric="clip_score",


rule kid_power:
    input:
        samples=f"{RESULTS}/{{culture}}/samples/{TABLE1[0]}.parquet",
        features=expand(f"{RESULTS}/{{{{culture}}}}/features/{{variant}}.safetensors", variant=TABLE1),
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
    shell:
        """
        python -m pipeline_steps.report.kid_power \
            --samples {input.samples:q} \
            --features {input.features:q} \
            --images {input.images:q} \
            --reference {input.reference:q} \
            --chart {output.chart:q} \
            --table {output.table:q} \
            2>&1 | tee {log:q}
        """


# --- Fig. 7: trainings under runs/fig7/{extractor}_{record}_{updates} ---


wildcard_constraints:
    extractor="|".join(SETTINGS.evaluation.fig7_extractors),
    record="first|last|random",
    updates=r"\d+",


use rule targets as targets_fig7 with:
    output:
        targets=f"{FIG7}/targets_{{extractor}}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/fig7/targets_{{extractor}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig7/targets_{{extractor}}.tsv"
    params:
        extractor=lambda wildcards: weights_of(fig7_perceptual(wildcards)),
        perceptual=lambda wildcards: fig7_perceptual(wildcards).model_dump_json(),


use rule train as train_fig7 with:
    input:
        train_cache=f"{RESULTS}/{{culture}}/train_cache.safetensors",
        targets=f"{FIG7}/targets_{{extractor}}.safetensors",
        card=ancient(f"{RESULTS}/{{culture}}/data_card.md"),
    output:
        lora=f"{FIG7_RUN}/lora.safetensors",
        train_log=f"{FIG7_RUN}/train_log.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/fig7/train_{{extractor}}_{{record}}_{{updates}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig7/train_{{extractor}}_{{record}}_{{updates}}.tsv"
    params:
        extractor=lambda wildcards: weights_of(fig7_perceptual(wildcards)),
        config=fig7_train,


use rule sample as sample_fig7 with:
    input:
        images=f"{RESULTS}/{{culture}}/images.parquet",
        prompts=prompts_file,
        lora=f"{FIG7_RUN}/lora.safetensors",
    output:
        samples=f"{FIG7_RUN}/samples.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/fig7/sample_{{extractor}}_{{record}}_{{updates}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig7/sample_{{extractor}}_{{record}}_{{updates}}.tsv"


use rule features as features_fig7 with:
    input:
        pictures=f"{FIG7_RUN}/samples.parquet",
    output:
        features=f"{FIG7_RUN}/features.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/fig7/features_{{extractor}}_{{record}}_{{updates}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig7/features_{{extractor}}_{{record}}_{{updates}}.tsv"


use rule score as score_fig7 with:
    input:
        samples=f"{FIG7_RUN}/samples.parquet",
        features=f"{FIG7_RUN}/features.safetensors",
        images=f"{RESULTS}/{{culture}}/images.parquet",
        reference=f"{RESULTS}/{{culture}}/features/images.safetensors",
    output:
        scores=f"{FIG7_RUN}/scores.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/fig7/score_{{extractor}}_{{record}}_{{updates}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/fig7/score_{{extractor}}_{{record}}_{{updates}}.tsv"
    params:
        variant="{extractor}_{record}_{updates}",


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
