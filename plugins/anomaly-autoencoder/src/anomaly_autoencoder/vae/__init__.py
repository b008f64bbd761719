"""The variational autoencoders vanilla_vae and unet_vae: config, model, modeler, and presets."""
