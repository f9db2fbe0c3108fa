# Needs:  the section "models" of the configuration; a network, as nothing else does.
# Leaves: models/                          the models of the configuration, verified
#         config/models.lock.json          commit, size and SHA-256 of every file, for the next fetch


def own_extractors():
    """A flag and the weights that perceptual distances name for themselves, or nothing where none does."""
    trained = [run.settings.train.perceptual.model for run in RUNS.values()]
    own = dict.fromkeys(ref.model_dump_json() for ref in trained if ref)
    return ["--extractors", *own] if own else []


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
