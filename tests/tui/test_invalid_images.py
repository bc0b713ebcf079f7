"""What the keys offer on an image that a commit has made invalid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backchain.image import Fingerprint, ImageState
from backchain_tui.screens.browse import BrowseScreen
from tests.tui.builders import forest, image
from tests.tui.driving import picture, put_cursor, text_of, until
from tests.tui.test_snapshots import application


@pytest.mark.parametrize("key", ["c", "p", "r", "s", "f"])
async def test_an_invalid_image_can_only_be_looked_at_and_deleted(key: str) -> None:
    web = replace(image("Web", state=ImageState.INVALID), fingerprint=Fingerprint(1, 2, 3, 4))
    graph = forest({"Golden": None, "Web": "Golden"}, Web=web)
    app = application(graph)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: picture(app).diagram is not None and picture(app).image() is not None)
        await put_cursor(app, pilot, "Web")
        await until(pilot, lambda: "What breaks" in text_of(app, "KeyBar"))
        footer = text_of(app, "KeyBar")
        assert "Delete" in footer
        assert not any(word in footer for word in ("Commit", "Pull", "Rebase", "Snapshot", "Fix link"))
        await pilot.press(key)
        await until(pilot, lambda: app._notifications)
        assert [n.message for n in app._notifications] == ["Web is invalid: d deletes it."]
        assert isinstance(app.screen, BrowseScreen)
