"""The judge: the oracle against pictures whose order is known, and a small Qwen-VL as it is really run."""

import json

import numpy as np
import pytest
import torch

from pipeline_steps.artifacts import ANSWERS, PAGES, SAMPLES, Origin, decode_picture, encode_picture
from pipeline_steps.config import JudgeConfig, ModelRef, SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.mini.world import CULTURAL, RIGHT, STEREOTYPE, Scene, render
from pipeline_steps.models import judges
from pipeline_steps.survey.judge import LETTERS, judge, ranks_of
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_pages import survey_pages
from tests.survey.survey_world import VARIANTS

ORACLE = ModelRef(path="resources/mini/oracle")
WORDING = "resources/survey/wording.en.yaml"
SCENES = ("house", "robe", "jar")


def drawn_pages(folder, culture="korea", prompts=3, each=4):
    """Pages on which each variant shows one attribute more as it should be, of prompt and of culture."""
    generic = [("setting", "day", "night"), ("colour", "red", "blue"), ("era", "modern", "traditional")]
    paths = []
    for better, variant in enumerate(VARIANTS):
        rows = []
        for number in range(prompts):
            for index in range(each):
                values = {"scene": SCENES[number % 3], "place": "centre"}
                for place, (name, right, wrong) in enumerate(generic):
                    values[name] = right if place < better else wrong
                for place, name in enumerate(CULTURAL):
                    values[name] = (RIGHT[culture] if place < better else STEREOTYPE)[name]
                jitter = np.random.default_rng([number, index]).uniform(-1, 1, 3)
                picture, _ = render(Scene(**values, jitter=tuple(jitter)))
                prompt = f"a modern red {SCENES[number % 3]} by day, scene {number}, in {culture}"
                rows.append(
                    {"prompt_id": f"{number:04d}", "index": index, "prompt": prompt,
                     "seed": 100 * number + index, "image": encode_picture(picture, "x.png")}
                )  # fmt: skip
        paths.append(folder / f"{culture}_{variant}.parquet")
        SAMPLES.write(paths[-1], rows, Origin(culture, "f" * 64))
    pages, forms = folder / f"{culture}_pages.parquet", folder / f"{culture}_forms.parquet"
    config = SurveyConfig(pages=prompts * each, pages_per_participant=prompts * each, attention_checks=1)
    survey_pages(paths, pages, forms, culture, 7, config)
    return pages, forms


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return drawn_pages(tmp_path_factory.mktemp("drawn"))[0]


def judged(pages, path, culture="korea", model=None, oracle=ORACLE, **settings):
    config = SurveyConfig(judge=JudgeConfig(**settings))
    judge(pages, WORDING, path, culture, 7, config, model, oracle)
    return ANSWERS.read(path), ANSWERS.note(path)


def test_the_oracle_puts_the_drawn_variants_in_their_order(pages, tmp_path):
    rows, note = judged(pages, tmp_path / "a.parquet")
    assert note["asked"] == len(rows) == 12 * 4 * 4 and note["malformed"] == 0
    truth = dict(zip(VARIANTS, (4, 3, 2, 1), strict=True))
    right = [[truth[name] for name in row["variants"]] == row["ranks"] for row in rows]
    assert np.mean(right) > 0.97
    assert {row["item"] for row in rows} == set(ITEMS)


def test_every_turn_shows_the_survey_s_page_with_its_pictures_moved_on(pages, tmp_path):
    rows, note = judged(pages, tmp_path / "a.parquet")
    shown = {}
    for row in PAGES.rows(pages, ["variant", "check"]):
        if not row["check"]:
            shown.setdefault(row["page"], []).append(row["variant"])
    assert {row["page"] for row in rows} == set(shown), "checks are not asked"
    assert note["judge"].startswith("resources/mini/oracle@") and not note["simulated"]
    for turn in range(4):
        own = [row for row in rows if row["participant"] == f"{note['judge']}, turn {turn + 1}"]
        assert len(own) == len(shown) * 4
        for row in own:
            assert row["variants"] == [*shown[row["page"]][turn:], *shown[row["page"]][:turn]]
    assert len(judged(pages, tmp_path / "b.parquet", turns=1)[0]) == len(shown) * 4


def test_an_oracle_that_errs_errs_at_that_rate_and_says_so(pages, tmp_path):
    right, _ = judged(pages, tmp_path / "a.parquet")
    wrong, note = judged(pages, tmp_path / "b.parquet", errors=0.5)
    assert note["judge"].endswith(", 50% at random")
    changed = np.mean([a["ranks"] != b["ranks"] for a, b in zip(right, wrong, strict=True)])
    assert changed == pytest.approx(0.5 * 23 / 24, abs=0.12)
    assert judged(pages, tmp_path / "c.parquet", errors=0.5)[0] == wrong


def test_a_culture_that_the_oracle_does_not_know_and_no_judge_at_all(pages, tmp_path):
    with pytest.raises(UserError, match="the oracle does not know 'wales'; name a vision-language model"):
        judged(pages, tmp_path / "a.parquet", culture="wales")
    with pytest.raises(UserError, match=r"models\.judge: name a vision-language model"):
        judged(pages, tmp_path / "a.parquet", oracle=None)


@pytest.mark.parametrize(
    ("reply", "ranks"),
    [
        ("B A D C", [2, 1, 4, 3]),
        ("B, A, D, C.", [2, 1, 4, 3]),
        ("B > A > D > C\n", [2, 1, 4, 3]),
        ("", None),
        ("B A D", None),
        ("B A D A", None),
        ("BADC", None),
        ("The best is B, then A, D, C", None),
        ("1. B 2. A 3. D 4. C", None),
        ("b a d c", None),
    ],
)
def test_a_reply_is_an_order_of_the_letters_or_nothing(reply, ranks):
    assert ranks_of(reply, LETTERS[:4]) == ranks


# --- a vision-language model ---


def tiny_qwen(folder):
    """Write a Qwen2.5-VL of random weights, a few kilobytes, with tokenizer and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
               "<|image_pad|>", "<|video_pad|>"]  # fmt: skip
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({name: n for n, name in enumerate(letters)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )  # fmt: skip
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
        "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}"
        "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    size = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size), tokenizer, Qwen2VLVideoProcessor(size=size), chat_template=template
    )
    processor.save_pretrained(folder)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_window_layers": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    for parameter in model.parameters():  # large enough that a reply depends on what is seen and asked
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return ModelRef(path=str(folder))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


def test_a_vision_language_model_replies_to_each_question_as_if_asked_alone(qwen, pages):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    pictures = [decode_picture(row["image"]) for row in list(PAGES.rows(pages))[:4]]
    ask = judges.vision_language(qwen, LETTERS, 6)
    questions = ["Which?", "Which one of these is the best?"]
    replies = ask(pictures, questions)
    assert replies == ask(pictures, questions), "greedy"

    model = AutoModelForImageTextToText.from_pretrained(qwen.path).eval()
    processor = AutoProcessor.from_pretrained(qwen.path)
    for question, reply in zip(questions, replies, strict=True):
        text = "".join(f"Picture {x}:<|vision_start|><|image_pad|><|vision_end|>" for x in "ABCD")
        text = f"<|im_start|>user\n{text}{question}<|im_end|>\n<|im_start|>assistant\n"
        inputs = processor(text=[text], images=pictures, return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_id).sum() == 4 * 4
        new = model.generate(**inputs, do_sample=False, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
        assert reply == processor.decode(new, skip_special_tokens=True)
    assert replies[0] != replies[1] and ask(pictures[::-1], questions) != replies, "it looks and reads"


def test_malformed_replies_are_counted_and_left_out(qwen, pages, tmp_path):
    rows, note = judged(pages, tmp_path / "a.parquet", model=qwen, max_new_tokens=3, turns=1)
    assert note["asked"] == 12 * 4 == note["malformed"] + len(rows)
    assert note["malformed"] > 40, "random weights order nothing"
    assert note["judge"].startswith(f"{qwen.path}@")


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match=r"models\.judge: cannot load"):
        judges.vision_language(ModelRef(path=str(tmp_path)), LETTERS, 3)
