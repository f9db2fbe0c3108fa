# Needs:  a default storage; prompts that the settings name, where the run was started
# Leaves: {results}/{culture}/{run}prompts.*        the same in the storage, where jobs see nothing else
#         {results}/generic_captions.*              likewise
from snakemake.io import update_wildcard_constraints


def keep_constraints():
    """Write the wildcards' constraints into the names by which outputs are matched: the S3 plugin (0.3.6) has
    noted its own before Snakemake does so, and an empty wildcard would match nothing."""
    for made in workflow.rules:
        for file in made.output:
            stored = file.storage_object if file.is_storage else None
            if hasattr(stored, "_local_suffix"):
                stored._local_suffix = update_wildcard_constraints(
                    stored._local_suffix, made.wildcard_constraints, workflow.wildcard_constraints
                )
        made.update_wildcard_constraints()


if not SHARED:

    rule carry_prompts:
        input:
            given=given_prompts,
        output:
            prompts=f"{RESULTS}/{{culture}}/{{run}}prompts.{{form}}",
        log:
            f"{RESULTS}/logs/{{culture}}/{{run}}carry_prompts_{{form}}.log",
        wildcard_constraints:
            form=r"\w+",
        localrule: True
        conda:
            "../../envs/pipeline.yaml"
        shell:
            "cp {input.given:q} {output.prompts:q} 2>&1 | tee {log:q}"

    if SETTINGS.cache.generic_captions:

        rule carry_generic_captions:
            input:
                given=place(SETTINGS.cache.generic_captions),
            output:
                captions=generic_captions(),
            log:
                f"{RESULTS}/logs/carry_generic_captions.log",
            localrule: True
            conda:
                "../../envs/pipeline.yaml"
            shell:
                "cp {input.given:q} {output.captions:q} 2>&1 | tee {log:q}"


keep_constraints()
