"""The scorer of texts that the settings ask for: the lexicon, or a model as an extra."""

from collections.abc import Sequence
from typing import Any

from scizor_core.errors import ConfigError
from scizor_core.sentiment.scorer import NEUTRAL_BAND, Label, LexiconScorer, Scorer, Sentiment
from scizor_resources.settings import Settings

#: Of longer texts a model reads the beginning; its window is about so many characters.
_LONGEST_TEXT = 2_000
_BATCH = 32


def make_scorer(settings: Settings) -> Scorer:
    """Return the scorer that SCIZOR_SENTIMENT_MODEL asks for, by default the lexicon.

    Raises:
        ConfigError: a model is asked for, but the extra `model` is not installed or the model
            cannot be loaded.
    """
    if settings.sentiment_model is None:
        return LexiconScorer()
    return ModelScorer(settings.sentiment_model)


class ModelScorer:
    """A text classifier with the labels positive, neutral and negative (FinBERT and the like).

    score = p(positive) - p(negative), confidence = the probability of the label.

    Args:
        model: name on the Hugging Face hub, or a directory.
        classify: texts -> for each a list of {"label", "score"}; by default the model itself.

    Raises:
        ConfigError: the extra is not installed, or the model cannot be loaded.
    """

    def __init__(self, model: str, classify: Any = None) -> None:
        self._name = f"model:{model}"
        self._classify = classify or _load(model)

    @property
    def name(self) -> str:
        """Name that is stored beside every score."""
        return self._name

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """Return the sentiment of each text, in their order; an empty one is neutral."""
        read = [text[:_LONGEST_TEXT].strip() for text in texts]
        answers = iter(self._classify([text for text in read if text]) if any(read) else ())
        return [
            _sentiment(next(answers)) if text else Sentiment(0.0, "neutral", 0.0) for text in read
        ]


def _sentiment(scores: Sequence[dict[str, Any]]) -> Sentiment:
    chance = {str(each["label"]).lower(): float(each["score"]) for each in scores}
    score = chance.get("positive", 0.0) - chance.get("negative", 0.0)
    label: Label = "neutral"
    if abs(score) >= NEUTRAL_BAND:
        label = "positive" if score > 0 else "negative"
    return Sentiment(score, label, chance.get(label, 0.0))


def _load(model: str) -> Any:
    try:
        from transformers import pipeline
    except ImportError:
        raise ConfigError(
            f"SCIZOR_SENTIMENT_MODEL asks for {model}, but the extra is not installed: "
            "pip install -e '.[model]', or unset it to use the lexicon."
        ) from None
    try:
        return pipeline("text-classification", model=model, top_k=None, batch_size=_BATCH)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The model {model} cannot be loaded: {error}.") from error
