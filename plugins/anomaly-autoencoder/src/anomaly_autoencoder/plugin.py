"""The methods and metrics of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core.specs import MetricSpec, ModelSpec

PAPER = "https://arxiv.org/abs/1807.02011"

VANILLA_AE = ModelSpec(
    target="anomaly_autoencoder.vanilla_ae.modeler:VanillaAEModeler",
    config="anomaly_autoencoder.vanilla_ae.config:VanillaAEConfig",
    trainer="gradient",
    summary="what a convolutional autoencoder cannot reconstruct",
    paper=PAPER,
    presets="anomaly_autoencoder.vanilla_ae:presets",
)

UNET_AE = ModelSpec(
    target="anomaly_autoencoder.unet_ae.modeler:UNetAEModeler",
    config="anomaly_autoencoder.unet_ae.config:UNetAEConfig",
    trainer="gradient",
    summary="what an autoencoder with skips, trained to remove noise, changes",
    paper=PAPER,
    presets="anomaly_autoencoder.unet_ae:presets",
)

VANILLA_VAE = ModelSpec(
    target="anomaly_autoencoder.vanilla_vae.modeler:VanillaVAEModeler",
    config="anomaly_autoencoder.vanilla_vae.config:VanillaVAEConfig",
    trainer="gradient",
    summary="what a variational autoencoder cannot reconstruct",
    paper=PAPER,
    presets="anomaly_autoencoder.vanilla_vae:presets",
)

UNET_VAE = ModelSpec(
    target="anomaly_autoencoder.unet_vae.modeler:UNetVAEModeler",
    config="anomaly_autoencoder.unet_vae.config:UNetVAEConfig",
    trainer="gradient",
    summary="what a variational autoencoder with skips, trained to remove noise, changes",
    paper=PAPER,
    presets="anomaly_autoencoder.unet_vae:presets",
)

PSNR = MetricSpec(
    target="anomaly_autoencoder.metrics:PSNR",
    summary="peak signal-to-noise ratio of the reconstructions, in dB",
    default=True,
    needs="reconstruction",
)

SSIM = MetricSpec(
    target="anomaly_autoencoder.metrics:SSIM",
    summary="structural similarity of images and reconstructions",
    default=True,
    needs="reconstruction",
)

LPIPS = MetricSpec(
    target="anomaly_autoencoder.metrics:LPIPS",
    summary="perceptual distance of images and reconstructions, by VGG16's features",
    higher_is_better=False,
    needs="reconstruction",
)
