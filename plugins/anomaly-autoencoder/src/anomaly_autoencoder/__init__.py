"""Methods that reconstruct images, plain and variational, with and without skips; and metrics of reconstructions."""
