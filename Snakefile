include: "workflow/Snakefile"


# What an include brings has no default target.
rule default:
    default_target: True
    input:
        rules.all.input,
