"""The methods and metrics of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import MetricSpec, ModelSpec

PAPER = "https://arxiv.org/abs/1807.02011"

VANILLA_AE = ModelSpec(
    target="anomaly_autoencoder.ae.modeler:AEModeler",
    config="anomaly_autoencoder.ae.config:VanillaAEConfig",
    trainer="gradient",
    summary="what a convolutional autoencoder cannot reconstruct",
    paper=PAPER,
    presets="anomaly_autoencoder.ae:presets/vanilla",
)

UNET_AE = ModelSpec(
    target="anomaly_autoencoder.ae.modeler:AEModeler",
    config="anomaly_autoencoder.ae.config:UNetAEConfig",
    trainer="gradient",
    summary="what an autoencoder with skips, trained to remove noise, changes",
    paper=PAPER,
    presets="anomaly_autoencoder.ae:presets/unet",
)

VANILLA_VAE = ModelSpec(
    target="anomaly_autoencoder.vae.modeler:VAEModeler",
    config="anomaly_autoencoder.vae.config:VanillaVAEConfig",
    trainer="gradient",
    summary="what a variational autoencoder cannot reconstruct",
    paper=PAPER,
    presets="anomaly_autoencoder.vae:presets/vanilla",
)

UNET_VAE = ModelSpec(
    target="anomaly_autoencoder.vae.modeler:VAEModeler",
    config="anomaly_autoencoder.vae.config:UNetVAEConfig",
    trainer="gradient",
    summary="what a variational autoencoder with skips, trained to remove noise, changes",
    paper=PAPER,
    presets="anomaly_autoencoder.vae:presets/unet",
)

PSNR = MetricSpec(
    target="anomaly_autoencoder.metrics:PSNR",
    title="PSNR",
    level="reconstruction",
    summary="peak signal-to-noise ratio of the reconstructions, in dB",
    default=True,
)

SSIM = MetricSpec(
    target="anomaly_autoencoder.metrics:SSIM",
    title="SSIM",
    level="reconstruction",
    summary="structural similarity of images and reconstructions",
    default=True,
)

LPIPS = MetricSpec(
    target="anomaly_autoencoder.metrics:LPIPS",
    title="LPIPS",
    level="reconstruction",
    summary="perceptual distance of images and reconstructions, by VGG16's features",
    higher_is_better=False,
)
