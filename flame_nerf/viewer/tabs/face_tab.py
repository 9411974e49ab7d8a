"""The tab of expression sliders: labelled groups, both sides at once, a search, and ways back to neutral."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from flame_nerf.viewer.handles import by_hand, on_press
from flame_nerf.viewer.sliders import (
    ANGLE_RANGE_DEG,
    SliderGroup,
    label_of,
    matches,
    other_side,
    slider_groups,
)
from flame_nerf.viewer.stage import Stage

if TYPE_CHECKING:
    from viser import GuiApi, GuiFolderHandle, GuiInputHandle, GuiTabHandle

OPEN_AT_FIRST = "Jaw"
"""Folder that stands open, so that a first look at the page shows what sliders do."""


class FaceTab:
    """Sliders of the stage's expressions and joints.

    Attributes:
        sliders: those on the page by the name of their expression or angle. A search leaves out those it does not find.
    """

    def __init__(self, gui: GuiApi, tab: GuiTabHandle, stage: Stage, moved: Callable[[], None]) -> None:
        """
        Args:
            gui, tab: where the handles are made.
            stage: what the sliders move.
            moved: called after they did.
        """
        self._gui, self._tab, self._stage, self._told = gui, tab, stage, moved
        self._groups = slider_groups(stage.avatar.pose_names, stage.avatar.pose_joints)
        self._range = dict(ANGLE_RANGE_DEG)
        self._range |= {name: group.expression_range for group in self._groups for name in group.expressions}
        self._folders: list[GuiFolderHandle] = []
        self.sliders: dict[str, GuiInputHandle] = {}
        with tab:
            self.search = gui.add_text("Search", "", hint="Shows the sliders whose names have these words")
            self.linked = gui.add_checkbox("Link sides", True, hint="Moves left and right together")
            self._ways_back = gui.add_button_group(
                "Set to",
                ("neutral", "this face"),
                hint="neutral: all sliders to zero. this face: the sliders to what the video or the motion shows now",
            )
        on_press(self._ways_back, lambda pressed, client: self._set_to(pressed))
        self.search.on_update(by_hand(self.build))
        self.build()

    def build(self) -> None:
        """Make the sliders that the search asks for; all of them where it is empty."""
        with self._stage.lock:
            for folder in self._folders:
                folder.remove()
            self._folders, self.sliders = [], {}
            query = self.search.value.strip()
            with self._tab:
                if query:
                    self._build_found(query)
                    return
                for group in self._groups:
                    with self._folder(group.label, group.label == OPEN_AT_FIRST):
                        self._add(group, [*group.expressions, *group.angles], group.label)
                        reset = self._gui.add_button(f"Reset {group.label.lower()}", color="gray")
                        reset.on_click(by_hand(partial(self._reset, group)))

    def _build_found(self, query: str) -> None:
        found = [
            (group, [name for name in (*group.expressions, *group.angles) if matches(query, name, group.label)])
            for group in self._groups
        ]
        count = sum(len(names) for _, names in found)
        with self._folder(f"{count} found" if count else "Nothing found", True):
            for group, names in found:
                self._add(group, names, "")

    def _folder(self, label: str, expanded: bool) -> GuiFolderHandle:
        self._folders.append(self._gui.add_folder(label, expand_by_default=expanded))
        return self._folders[-1]

    def _add(self, group: SliderGroup, names: list[str], folder: str) -> None:
        """Sliders of some of a group's names, in a folder whose word their labels need not repeat."""
        for name in names:
            angle = name in ANGLE_RANGE_DEG
            low, high = self._range[name]
            value = min(max(self._value(name), low), high)
            hint = f"{name}, degrees" if angle else name
            slider = self._gui.add_slider(label_of(name, folder), low, high, 0.5 if angle else 0.01, value, hint=hint)
            slider.on_update(by_hand(partial(self._moved, name)))
            self.sliders[name] = slider

    def _value(self, name: str) -> float:
        return self._stage.angles.get(name, 0.0) if name in ANGLE_RANGE_DEG else self._stage.expression[name]

    def _moved(self, name: str) -> None:
        """A person has moved a slider."""
        slider = self.sliders.get(name)
        if slider is None:
            return
        if name in ANGLE_RANGE_DEG:
            self._stage.set_sliders(angles={name: slider.value})
            self._told()
            return
        values = {name: slider.value}
        other = other_side(name, self._stage.expression) if self.linked.value else None
        if other is not None:
            values[other] = slider.value
            if other in self.sliders:
                self.sliders[other].value = slider.value
        self._stage.set_sliders(values)
        self._told()

    def _set_to(self, what: str) -> None:
        if what == "neutral":
            self._stage.reset()
        else:
            pose = self._stage.pose()
            if pose is not None:
                self._stage.take(pose)
        self.refresh()

    def _reset(self, group: SliderGroup) -> None:
        self._stage.reset({*group.expressions, *group.angles})
        self.refresh()

    def refresh(self) -> None:
        """Move the sliders on the page to what the stage holds."""
        with self._stage.lock:
            for name, slider in self.sliders.items():
                low, high = self._range[name]
                value = min(max(self._value(name), low), high)
                if abs(slider.value - value) > 1e-9:
                    slider.value = value
        self._told()
