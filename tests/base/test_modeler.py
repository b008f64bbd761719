"""What a method need not say of itself, and how its state is loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anomaly_core import AnomalyError, InputSpec, ModelContext
from tiny.config import MirrorConfig, PaletteConfig
from tiny.methods import Mirror, Palette


def fitted() -> Palette:
    palette = Palette(PaletteConfig())
    palette.collect(torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    palette.build()
    return palette


def test_a_memory_that_has_grown_takes_its_saved_shape() -> None:
    palette, again = fitted(), Palette(PaletteConfig())
    assert again.darkest.shape == (0, 3)
    again.load_state(palette.state_dict())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(again.predict_step(images).scores, palette.predict_step(images).scores)
    assert again.darkest.shape == (5, 3)


def test_a_state_of_another_network_is_refused() -> None:
    with pytest.raises((RuntimeError, AttributeError)):
        Mirror(MirrorConfig(width=8)).load_state(Mirror(MirrorConfig(width=4)).state_dict())
    with pytest.raises((RuntimeError, AttributeError)):
        Mirror(MirrorConfig()).load_state(fitted().state_dict())


def test_without_a_context_no_pretrained_weights_are_looked_for() -> None:
    assert Palette(PaletteConfig()).context == ModelContext(pretrained=False)
    assert Palette(PaletteConfig(), ModelContext(prompt="cloth")).context.prompt == "cloth"


def test_the_input_is_what_the_config_asks_for() -> None:
    palette = Palette(PaletteConfig(image_size=(24, 40), center_crop=20, resize="pad"))
    assert palette.input_spec == InputSpec((24, 40), "pad", (20, 20))
    assert palette.input_spec.output_size == (20, 20)


def test_what_a_method_does_not_offer_is_refused_by_name() -> None:
    palette = fitted()
    with pytest.raises(AnomalyError, match="Palette cannot extend a finished memory"):
        palette.reopen()
    palette.merge(SimpleNamespace(num_processes=1))
    with pytest.raises(AnomalyError, match="Palette does not merge what several processes collect"):
        palette.merge(SimpleNamespace(num_processes=2))


def test_what_a_method_need_not_say() -> None:
    mirror = Mirror(MirrorConfig())
    assert mirror.describe() == {} and mirror.fewest_images == 1
    assert mirror.trained_state().keys() == mirror.state_dict().keys()
    assert mirror.summarize({"loss": 2.0}) == {"loss": 2.0}
    assert fitted().held_out_step(torch.rand(1, 3, 4, 4)) == {}
    with mirror.fitting(repeated=True):
        mirror.start_epoch(1, 2)
        mirror.before_training([])
        mirror.after_training([])
    mirror.prepare_export()
