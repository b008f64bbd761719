"""ExtractorOptions: the options of every method with a frozen extractor. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ByteSize, Field

from anomaly_core import ConfigError, Needs, expanded

if TYPE_CHECKING:
    from anomaly_core import ModelContext
    from anomaly_features.backbones import Backbones

TWO_GIB = ByteSize(2 * 1024**3)


@dataclass(kw_only=True)
class ExtractorOptions:
    """The source of the pretrained weights, the engine, and whether features are cached.

    A method's config extends it together with the core's: ``class MyConfig(ExtractorOptions, ModelConfig)``.
    """

    backbones: Annotated[
        str | None, Field(description="folder with weight files; else $ANOMALY_BACKBONES, else ./backbones")
    ] = None
    engine: Annotated[
        str,
        Field(
            description="what computes the frozen network: torch, openvino, onnx, ...; auto: OpenVINO or ONNX Runtime on a CPU "
            "where anomaly-export and they are installed"
        ),
    ] = "auto"
    feature_cache: Annotated[
        Literal["auto", "off", "ram", "disk"],
        Field(
            description="compute frozen features once: kept in memory while training (auto: on a CPU), or on disk for all runs"
        ),
    ] = "auto"
    cache_budget: Annotated[
        ByteSize,
        Field(ge=0, description="bytes that cached features may take, such as 2GiB"),
        Needs("model.feature_cache!=off"),
    ] = TWO_GIB
    cache_folder: Annotated[
        str, Field(description="folder of the features that are cached on disk"), Needs("model.feature_cache=disk")
    ] = "experiments/.cache/features"

    def weights(self, context: ModelContext) -> Backbones | None:
        """The source of the extractor's weights; None for a finished run, whose saved weights are loaded later.

        Raises:
            ConfigError: ``backbones`` is no folder: the weights would come from elsewhere, whatever it says.
        """
        from anomaly_features.backbones import Backbones

        if self.backbones is not None and context.pretrained and not expanded(self.backbones).is_dir():
            raise ConfigError(f"model.backbones={self.backbones!r} is no folder. Check the path, or leave it out.")
        return Backbones(self.backbones) if context.pretrained else None
