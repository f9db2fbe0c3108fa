"""Stable Diffusion 1.x and 2.x: a UNet that predicts noise or velocity, and one text encoder."""

from typing import Any, ClassVar, get_args

from torch import Tensor

from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.processes import Density, Diffusion, Prediction
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.family import Family, Kind
from pipeline_steps.models.loading import device, load


class StableDiffusion(Family):
    """Its condition is ``encoder_hidden_states`` (n, 77, d), the text encoder's last hidden states."""

    title = "Stable Diffusion 1.x or 2.x"
    pipeline = "StableDiffusionPipeline"
    controlled = "StableDiffusionControlNetPipeline"
    denoiser_class = "UNet2DConditionModel"
    denoiser_part = "unet"
    tokens = 77
    # No black pictures of a safety checker among the scored ones.
    options: ClassVar[dict[str, Any]] = {"safety_checker": None, "feature_extractor": None}

    def noise_process(self, positions: int | None = None, density: Density = "logit_normal") -> Diffusion:
        """Load ᾱ and what is predicted, from the scheduler's configuration."""
        from diffusers import DDPMScheduler

        schedule = load(DDPMScheduler, self.base, "base", subfolder="scheduler")
        prediction = schedule.config.prediction_type
        if prediction not in get_args(Prediction):
            raise UserError(
                f"models.base predicts '{prediction}' (scheduler/scheduler_config.json); these losses know "
                + " and ".join(get_args(Prediction))
            )
        return Diffusion(schedule.alphas_cumprod.to(device()), prediction)

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the UNet at the integer t."""
        predicted: Tensor = denoiser(z, t, **self._arguments(condition)).sample
        return predicted

    def hint(
        self, denoiser: Any, control: Any, z: Tensor, t: Tensor, condition: Condition, picture: Tensor
    ) -> Any:
        """Call the ControlNet alone."""
        return control(z, t, controlnet_cond=picture, return_dict=False, **self._arguments(condition))

    def _arguments(self, condition: Condition) -> dict[str, Any]:
        """What UNet and ControlNet take beside latents and time."""
        return {"encoder_hidden_states": condition["encoder_hidden_states"]}

    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        return {"encoder_hidden_states": self._embeddings(pipeline, prompts)[0]}

    def _embeddings(self, pipeline: Any, prompts: list[str]) -> tuple[Tensor, ...]:
        """What the pipeline makes of prompts; behind each tensor it returns that of the null prompt."""
        found: tuple[Tensor, ...] = pipeline.encode_prompt(
            prompts, device=device(), num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return found[::2]

    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return that of the hidden states."""
        unet = blueprints.configuration(self.base, "unet", "unet")
        return {"encoder_hidden_states": (self.tokens, unet["cross_attention_dim"])}

    def kind(self) -> Kind:
        """Tell 1.x from 2.x by the width of the text's states; 2.x predicts noise or velocity."""
        velocity = self._prediction() == "v_prediction"
        prediction = "v" if velocity else "epsilon"
        if blueprints.configuration(self.base, "unet", "unet")["cross_attention_dim"] != 1024:
            return Kind("stable-diffusion-v1", prediction, "sd_v1")
        architecture = "stable-diffusion-v2-768-v" if velocity else "stable-diffusion-v2-512"
        return Kind(architecture, prediction, "sd_v2_v" if velocity else "sd_v2", v2=True)

    def _prediction(self) -> str:
        schedule = blueprints.configuration(self.base, "scheduler", "scheduler")
        return str(schedule.get("prediction_type", "epsilon"))

    def _with_sampler(self, pipeline: Any) -> Any:
        """DPM-Solver++ (paper §5 setting)."""
        from diffusers import DPMSolverMultistepScheduler

        sampler: Any = DPMSolverMultistepScheduler
        pipeline.scheduler = sampler.from_config(pipeline.scheduler.config, algorithm_type="dpmsolver++")
        return pipeline
