"""What models on a rectified flow share: the schedule of their own scheduler."""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_steps.method.processes import Density, RectifiedFlow
from pipeline_steps.models.families.family import Family
from pipeline_steps.models.loading import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class FlowFamily(Family):
    """A family whose scheduler is diffusers' ``FlowMatchEulerDiscreteScheduler``.

    Attributes:
        thinking: whether prompts are put into the text encoder's chat template with thinking enabled.
    """

    thinking: ClassVar[bool] = True

    def noise_process(self, positions: int | None = None, density: Density = "logit_normal") -> RectifiedFlow:
        """Load the schedule's shift: fixed, or, where the scheduler says so, of the latents' size."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        settings = load(FlowMatchEulerDiscreteScheduler, self.base, "base", subfolder="scheduler").config
        shift = settings.shift
        if settings.use_dynamic_shifting:
            shift = math.exp(self._mu(positions or self.usual_positions, settings))
        return RectifiedFlow(shift, density, settings.num_train_timesteps)

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Load the tokenizer; what the chat template takes of the tokens is left out of its limit."""
        tokenizer = super().tokenizer()
        if tokenizer.chat_template:
            empty = [{"role": "user", "content": ""}]
            framed: Any = tokenizer.apply_chat_template(
                empty, tokenize=False, add_generation_prompt=True, enable_thinking=self.thinking
            )
            tokenizer.model_max_length = self.tokens - len(tokenizer(framed).input_ids)
        return tokenizer

    @abstractmethod
    def _mu(self, positions: int, settings: Any) -> float:
        """Return the exponential shift that the pipeline takes for latents of so many positions."""
