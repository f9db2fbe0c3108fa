# Needs:  the shards of captions, depth, negatives, train_cache or samples, each made by a job of its own
# Leaves: the very file that a single job would have made; a lost shard is made again alone
#         {results}/{culture}/{run}merged/{file}.txt     how many shards that was; they may be deleted


def shards_of(wildcards):
    """The shards that a file is merged from: as many as made it, or as the settings say for a new one.

    A file that is there stays what it is, whatever becomes of the setting, and whatever shards a run that was
    broken off has left beside its own.
    """
    file = f"{wildcards.file}.{wildcards.ending}"
    folder = Path(moved(RESULTS), wildcards.culture, wildcards.run)
    count, note = SETTINGS.shards, folder / f"merged/{file}.txt"
    if (folder / file).exists():
        merged = note.exists() and note.stat().st_mtime >= (folder / file).stat().st_mtime
        count = int(note.read_text()) if merged else 1
    if count == 1:
        # Nobody makes this: Snakemake passes on to the rule that makes the file in one piece. It would do
        # so after an error too, but prints that for every file.
        return f"{folder}/shards/none/{file}"
    shard = f"{RESULTS}/{{{{culture}}}}/{{{{run}}}}shards/{{k}}_of_{count}/{{{{file}}}}.{{{{ending}}}}"
    return expand(shard, k=range(1, count + 1))


rule merge_shards:
    input:
        shards=shards_of,
    output:
        merged=f"{RESULTS}/{{culture}}/{{run}}{{file}}.{{ending}}",
        note=f"{RESULTS}/{{culture}}/{{run}}merged/{{file}}.{{ending}}.txt",
    log:
        f"{RESULTS}/logs/{{culture}}/{{run}}merge_{{file}}.{{ending}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/{{run}}merge_{{file}}.{{ending}}.tsv"
    wildcard_constraints:
        file="captions|depth|negatives|train_cache|samples/(" + "|".join(VARIANTS) + ")",
        ending="parquet|safetensors",
    conda:
        "../../envs/pipeline.yaml"
    params:
        kind=lambda wildcards: wildcards.file.split("/")[0],
        number=lambda wildcards, input: len(input.shards),
    shell:
        """
        python -m pipeline_steps.merge_shards \
            --kind {params.kind} \
            --shards {input.shards:q} \
            --merged {output.merged:q} \
            --culture {wildcards.culture:q} \
            2>&1 | tee {log:q}
        echo {params.number} >{output.note:q}
        """


ruleorder: merge_shards > caption > depth > synthesize > cache > sample
