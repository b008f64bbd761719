"""PatchCore, Roth et al., CVPR 2022."""
