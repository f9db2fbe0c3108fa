# Needs:  the section "models" of the configuration; a network for `snakemake models`, and for nothing else.
# Leaves: {results}/plan.md                what everything will cost, estimated
#         models/                          the models of the configuration, verified
#         config/models.lock.json          commit, size and SHA-256 of every file, for the next fetch


rule models:
    log:
        f"{RESULTS}/logs/models.log",
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        models=SETTINGS.models.model_dump_json(),
        extractors=own_extractors(),
    shell:
        """
        python -m pipeline_steps.models.fetch_models \
            --models {params.models:q} \
            {params.extractors:q} \
            --lock config/models.lock.json \
            2>&1 | tee {log:q}
        """


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        settings=SETTINGS.model_dump_json(),
        plan=f"{RESULTS}/plan.md",
    shell:
        """
        python -m pipeline_steps.planning.plan \
            --settings {params.settings:q} \
            --plan {params.plan:q} \
            2>&1 | tee {log:q}
        """
