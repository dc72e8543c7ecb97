"""The failures of secure aggregation. Each has a permanent slug, as those of `problems` have."""

from hansa_core.problems import CoreError


class SecaggError(CoreError):
    """Keys, graphs, masks or words that the protocol cannot use."""

    slug = "secure-aggregation"


class ShareError(SecaggError):
    """Shares of a secret that do not give it back, or cannot be made."""

    slug = "secret-share-unusable"


class SealError(SecaggError):
    """A seal, or a file of seals, that is damaged or belongs somewhere else."""

    slug = "seal-unusable"


class SecaggRefusedError(SecaggError):
    """What an honest party does not do, whoever asks: its own checks say no."""

    slug = "secure-aggregation-refused"
