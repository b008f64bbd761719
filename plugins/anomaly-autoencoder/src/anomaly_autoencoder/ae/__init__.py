"""The plain autoencoders vanilla_ae and unet_ae: config, model, modeler, and presets."""
