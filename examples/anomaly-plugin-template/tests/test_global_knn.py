"""Scores against scikit-learn's nearest neighbours."""

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from anomaly_global_knn.config import GlobalKNNConfig
from anomaly_global_knn.modeler import GlobalKNNModeler


def test_the_score_is_the_mean_distance_of_the_nearest() -> None:
    torch.manual_seed(0)
    config = GlobalKNNConfig(backbone="resnet18.tv_in1k", image_size=64, neighbours=3)
    modeler = GlobalKNNModeler(config).eval()
    normal, new = torch.rand(9, 3, 64, 64), torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        modeler.collect(normal[:5])
        modeler.collect(normal[5:])
        modeler.build()
        scores = modeler.predict_step(new).scores.numpy()
        bank, queries = modeler.embed(normal).numpy(), modeler.embed(new).numpy()
    distances, _ = NearestNeighbors(n_neighbors=3).fit(bank).kneighbors(queries)
    np.testing.assert_allclose(scores, distances.mean(axis=1), rtol=1e-4)


def test_an_extended_bank_is_that_of_all_images() -> None:
    torch.manual_seed(0)
    config, images = GlobalKNNConfig(backbone="resnet18.tv_in1k", image_size=64), torch.rand(5, 3, 64, 64)
    modeler = GlobalKNNModeler(config).eval()
    with torch.inference_mode():
        modeler.collect(images[:3])
        modeler.build()
        modeler.reopen()
        modeler.collect(images[3:])
        modeler.build()
        torch.testing.assert_close(modeler.bank, modeler.embed(images))
