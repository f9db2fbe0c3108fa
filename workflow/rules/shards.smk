# Needs:  what caption, depth, synthesize, cache and sample need
# Leaves: what they leave, made by `shards` jobs each and merged
#         {results}/{culture}/shards/{file}/{k}_of_{n}    the k-th share; a lost one is made again alone
# Only part of the workflow where `shards` is more than 1.


wildcard_constraints:
    shard=r"\d+",


use rule caption as caption_shard with:
    output:
        captions=f"{RESULTS}/{{culture}}/shards/captions/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/caption_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/caption_{SHARD}.tsv"
    params:
        shard=shard,


use rule depth as depth_shard with:
    output:
        depth=f"{RESULTS}/{{culture}}/shards/depth/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/depth_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/depth_{SHARD}.tsv"
    params:
        shard=shard,


use rule synthesize as synthesize_shard with:
    output:
        negatives=f"{RESULTS}/{{culture}}/shards/negatives/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/synthesize_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/synthesize_{SHARD}.tsv"
    params:
        shard=shard,


use rule cache as cache_shard with:
    output:
        train_cache=f"{RESULTS}/{{culture}}/shards/train_cache/{SHARD}.safetensors",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/cache_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/cache_{SHARD}.tsv"
    params:
        shard=shard,


use rule sample as sample_shard with:
    output:
        samples=f"{RESULTS}/{{culture}}/shards/samples/{{variant}}/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/sample_{{variant}}_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/sample_{{variant}}_{SHARD}.tsv"
    params:
        shard=shard,


use rule sample_set as sample_set_shard with:
    output:
        samples=f"{RESULTS}/{{culture}}/shards/runs/{{prompt_set}}/samples/{{variant}}/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/sample_{{prompt_set}}_{{variant}}_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/sample_{{prompt_set}}_{{variant}}_{SHARD}.tsv"
    params:
        shard=shard,


use rule sample_run as sample_run_shard with:
    output:
        samples=f"{RESULTS}/{{culture}}/shards/runs/{{run}}/samples/{{variant}}/{SHARD}.parquet",
    log:
        f"{RESULTS}/logs/{{culture}}/shards/runs/{{run}}/sample_{{variant}}_{SHARD}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/shards/runs/{{run}}/sample_{{variant}}_{SHARD}.tsv"
    params:
        shard=shard,


rule merge_shards:
    input:
        shards=expand(
            f"{RESULTS}/{{{{culture}}}}/shards/{{{{file}}}}/{SHARD}.{{{{ending}}}}",
            shard=range(1, SHARDS + 1),
        ),
    output:
        merged=f"{RESULTS}/{{culture}}/{{file}}.{{ending}}",
    log:
        f"{RESULTS}/logs/{{culture}}/merge_{{file}}.{{ending}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{culture}}/merge_{{file}}.{{ending}}.tsv"
    wildcard_constraints:
        file="captions|depth|negatives|train_cache|(runs/[^/]+/)?samples/[^/]+",
        ending="parquet|safetensors",
    conda:
        "../../envs/pipeline.yaml"
    params:
        kind=lambda wildcards: "samples" if "samples/" in wildcards.file else wildcards.file,
    shell:
        """
        python -m pipeline_steps.merge_shards \
            --kind {params.kind} \
            --shards {input.shards:q} \
            --merged {output.merged:q} \
            --culture {wildcards.culture:q} \
            2>&1 | tee {log:q}
        """


ruleorder: merge_shards > caption > depth > synthesize > cache > sample > sample_set > sample_run
