# Needs:  the configuration, and the models' own configurations, fetched or published here
# Leaves: {results}/plan.md                what everything will cost, estimated


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        settings=SETTINGS.model_dump_json(),
        plan=moved(f"{RESULTS}/plan.md"),
    shell:
        """
        python -m pipeline_steps.planning.plan \
            --settings {params.settings:q} \
            --plan {params.plan:q} \
            2>&1 | tee {log:q}
        """
