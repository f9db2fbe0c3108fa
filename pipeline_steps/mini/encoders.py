"""The models that look: CLIP, DINOv2, DreamSim, the KID feature network and the oracle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig, Dinov2Config, Dinov2Model

from pipeline_steps.method.pictures import normalise, to_unit
from pipeline_steps.mini.corpora import Corpus, scene_of
from pipeline_steps.mini.fitting import fit
from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, Scene, changed, cultural_caption, render
from pipeline_steps.models.extractors import load_dreamsim
from pipeline_steps.models.oracle import AttributeNet


def train_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Train CLIP's byte-level BPE on the captions; every byte stays encodable, so any text is."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in _merges(tokenizer)]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    # The library's BPE takes pairs, and its annotation asks for lines of text.
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, list) else pair.split(" ") for pair in merges]


def train_clip(
    pictures: np.ndarray,
    captions: list[str],
    tokenizer: CLIPTokenizer,
    steps: int,
    view: Callable[[Tensor], Tensor] = lambda unit: unit,
) -> CLIPModel:
    """Train CLIP contrastively.

    Args:
        pictures: uint8, shape (n, 64, 64, 3).
        captions: one per picture.
        tokenizer: of the captions.
        steps: updates.
        view: what is shown of pictures in [0, 1], shape (b, 3, 64, 64).
    """
    torch.manual_seed(0)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "projection_dim": 64,
            **special,
        },
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "projection_dim": 64,
        },
        projection_dim=64,
    )
    clip = CLIPModel(config)
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    longest = int((tokens == tokenizer.eos_token_id).int().argmax(1).max()) + 1

    def loss(rows: np.ndarray, step: int) -> Tensor:
        # Padding is causal-masked away from the end token, so a shorter batch gives the same embedding.
        return clip(
            input_ids=tokens[rows, :longest],
            pixel_values=normalise(view(to_unit(pictures[rows]))),
            return_loss=True,
        ).loss

    fit("clip", clip, loss, count=len(captions), steps=steps, batch_size=128, lr=1e-3)
    return clip


def train_seeing_clip(corpus: Corpus, steps: int) -> CLIPModel:
    """Train a CLIP on captions that name all that is cultural, whatever place and shade it has."""
    captions = [cultural_caption(scene_of(labels)) for labels in corpus.labels]
    random = torch.Generator().manual_seed(0)

    def view(unit: Tensor) -> Tensor:
        theta = torch.zeros(len(unit), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = torch.empty(len(unit)).uniform_(0.95, 1.05, generator=random)
        theta[:, :, 2] = torch.empty(len(unit), 2).uniform_(-0.06, 0.06, generator=random)
        return _warped(unit, theta, 0.07, random)

    return train_clip(corpus.pictures, captions, train_tokenizer(captions), steps, view)


def _random_crop(unit: Tensor, random: torch.Generator, smallest: float) -> Tensor:
    """One random square crop and flip per picture, resized back; colours slightly shifted."""
    n = len(unit)
    scale = torch.empty(n).uniform_(smallest, 1.0, generator=random)
    shift = (1 - scale)[:, None] * torch.empty(n, 2).uniform_(-1, 1, generator=random)
    flip = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * flip, scale
    theta[:, :, 2] = shift
    return _warped(unit, theta, 0.15, random)


def _warped(unit: Tensor, theta: Tensor, shade: float, random: torch.Generator) -> Tensor:
    """Pictures under affine maps (n, 2, 3), each colour up to ``shade`` lighter or darker."""
    grid = F.affine_grid(theta, list(unit.shape), align_corners=False)
    warped = F.grid_sample(unit, grid, align_corners=False, padding_mode="reflection")
    gain = torch.empty(len(unit), 3, 1, 1).uniform_(1 - shade, 1 + shade, generator=random)
    return (warped * gain).clamp(0, 1)


def train_dino(corpus: Corpus, steps: int) -> Dinov2Model:
    """Train DINOv2's backbone by self-distillation (DINO loss: two crops, centring, averaged teacher)."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=96, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=4, image_size=64, patch_size=8
    )
    prototypes = 512

    def network() -> nn.ModuleDict:
        head = nn.Sequential(
            nn.Linear(96, 192),
            nn.GELU(),
            nn.Linear(192, 64),
            _Normalise(),
            nn.Linear(64, prototypes, bias=False),
        )
        return nn.ModuleDict({"backbone": Dinov2Model(config), "head": head})

    student, teacher = network(), network()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    centre = torch.zeros(prototypes)
    random = torch.Generator().manual_seed(0)

    def logits(net: nn.ModuleDict, pictures: Tensor) -> Tensor:
        return net["head"](net["backbone"](normalise(pictures)).pooler_output)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        momentum = 1 - 0.01 * (1 - step / steps)
        for mean, weight in zip(teacher.parameters(), student.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - momentum)
        unit = to_unit(corpus.pictures[rows])
        views = torch.cat([_random_crop(unit, random, 0.5) for _ in range(2)])
        with torch.no_grad():
            target = logits(teacher, views)
            wanted = ((target - centre) / 0.04).softmax(-1).roll(len(rows), 0)
            centre.lerp_(target.mean(0), 0.1)
        return -(wanted * (logits(student, views) / 0.1).log_softmax(-1)).sum(-1).mean()

    fit(
        "dino",
        student,
        loss,
        count=len(corpus.captions),
        steps=steps,
        batch_size=64,
        lr=1e-3,
        weight_decay=4e-2,
    )
    teacher.eval()
    return cast("Dinov2Model", teacher["backbone"])


class _Normalise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


def save_dreamsim(folder: Path, clip: CLIPModel, corpus: Corpus, steps: int) -> None:
    """Fine-tune CLIP's vision tower with LoRA on triplets and save it in dreamsim's own format.

    The package reads ``clipl14_as_dino_vitl.pth.tar`` (constructor arguments and weights, so any
    size) and a PEFT adapter. A triplet is a reference and two copies drawn anew, a little off its place; the
    copy in which fewer attributes differ is the closer one, as the people in DreamSim's 2AFC data judged
    (Fu et al. 2023, §3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_clip_as_dino(folder / "clipl14_as_dino_vitl.pth.tar", clip)
    settings = {"model_type": "clip_vitl14", "feat_type": "embedding", "stride": "8", "image_size": 64}
    (folder / "dreamsim.json").write_text(json.dumps(settings, indent=2) + "\n")
    torch.manual_seed(0)
    base = load_dreamsim(folder, adapter=False)
    model = get_peft_model(
        base, LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=["qkv", "proj"])
    )
    random = np.random.default_rng(0)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        scenes = [scene_of(labels) for labels in corpus.labels[rows]]
        names = [[_changes(random) for _ in scenes] for _ in range(2)]
        copies = [[changed(random, *pair) for pair in zip(scenes, drawn, strict=True)] for drawn in names]
        views = [corpus.pictures[rows], *(_rendered(column) for column in copies)]
        embed = [F.normalize(model.embed(to_unit(view)), dim=-1) for view in views]
        distance = [1 - (embed[0] * other).sum(-1) for other in embed[1:]]
        further = torch.tensor([len(far) - len(near) for near, far in zip(*names, strict=True)])
        margin = 0.05 * further.abs()
        return F.relu(margin - further.sign() * (distance[1] - distance[0]))[further != 0].mean()

    fit("dreamsim", model, loss, count=len(corpus.labels), steps=steps, batch_size=32, lr=1e-3)
    model.save_pretrained(str(folder / "clip_vitl14_single_lora"))


def _rendered(scenes: list[Scene]) -> np.ndarray:
    return np.stack([np.asarray(render(scene)[0]) for scene in scenes])


def _changes(random: np.random.Generator) -> list[str]:
    """Draw what differs in a copy: nothing, one attribute, all cultural ones, or two to four of any."""
    kind = random.random()
    if kind < 0.7:
        return [] if kind < 0.3 else [str(random.choice(list(ATTRIBUTES)))]
    if kind < 0.85:
        return list(CULTURAL)
    return random.choice(list(ATTRIBUTES), random.integers(2, 5), replace=False).tolist()


def _write_clip_as_dino(path: Path, clip: CLIPModel) -> None:
    """Rename CLIP's vision weights to the names of dreamsim's VisionTransformer."""
    vision = clip.vision_model
    config: CLIPVisionConfig = vision.config
    source = vision.state_dict()
    state = {
        "cls_token": source["embeddings.class_embedding"].view(1, 1, -1),
        "pos_embed": source["embeddings.position_embedding.weight"][None],
        "patch_embed.proj.weight": source["embeddings.patch_embedding.weight"],
        "patch_embed.proj.bias": torch.zeros(config.hidden_size),
        "proj": clip.visual_projection.weight.detach().T.contiguous(),
    }
    renamed = {
        "pos_drop": "pre_layrnorm",
        "norm": "post_layernorm",
    }
    for index in range(config.num_hidden_layers):
        block, layer = f"blocks.{index}", f"encoder.layers.{index}"
        renamed |= {
            f"{block}.norm1": f"{layer}.layer_norm1",
            f"{block}.norm2": f"{layer}.layer_norm2",
            f"{block}.attn.proj": f"{layer}.self_attn.out_proj",
            f"{block}.mlp.fc1": f"{layer}.mlp.fc1",
            f"{block}.mlp.fc2": f"{layer}.mlp.fc2",
        }
        for kind in ("weight", "bias"):
            parts = [source[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
    for new, old in renamed.items():
        for kind in ("weight", "bias"):
            state[f"{new}.{kind}"] = source[f"{old}.{kind}"]
    kwargs = {
        "img_size": [config.image_size],
        "patch_size": config.patch_size,
        "embed_dim": config.hidden_size,
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "mlp_ratio": config.intermediate_size / config.hidden_size,
        "qkv_bias": True,
    }
    torch.save(
        {"kwargs": kwargs, "state_dict": {k: v.detach().clone().half() for k, v in state.items()}}, path
    )


def _degrade(unit: Tensor, random: torch.Generator) -> Tensor:
    """Blur half of the pictures a little and add noise to all, as samples of a small model look."""
    blurred = F.avg_pool2d(F.pad(unit, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(len(unit), 1, 1, 1, generator=random)
    mixed = unit.lerp(blurred, (share * 2 - 0.8).clamp(0, 1))
    level = 0.06 * torch.rand(len(unit), 1, 1, 1, generator=random)
    return (mixed + level * torch.randn(unit.shape, generator=random)).clamp(0, 1)


def train_attribute_net(
    name: str,
    corpus: Corpus,
    reconstructions: np.ndarray | None,
    attributes: tuple[str, ...],
    width: int,
    steps: int,
) -> AttributeNet:
    """Train a convolutional classifier of the named attributes.

    With ``reconstructions`` (the VAE's, same rows) half of each batch is replaced by them and all
    pictures are degraded: that is the oracle. Without, it is the feature network for KID.
    """
    torch.manual_seed(0)
    net = AttributeNet({key: ATTRIBUTES[key] for key in attributes}, width)
    columns = [list(ATTRIBUTES).index(key) for key in attributes]
    labels = torch.from_numpy(corpus.labels)[:, columns]
    random = torch.Generator().manual_seed(0)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        unit = to_unit(corpus.pictures[rows])
        if reconstructions is not None:
            half = len(rows) // 2
            unit[:half] = to_unit(reconstructions[rows[:half]])
            unit = _degrade(unit, random)
        logits = net.logits(unit)
        losses = [F.cross_entropy(logits[key], labels[rows, i]) for i, key in enumerate(attributes)]
        return sum(losses[1:], losses[0]) / len(losses)

    fit(name, net, loss, count=len(labels), steps=steps, batch_size=64, lr=2e-3)
    return net
