"""A made-up animal, as a worked example of a head model of one's own: see README.md beside this file."""

from data_tools.animal.config import AnimalConfig, AnimalError

__all__ = ["AnimalConfig", "AnimalError", "animal_head", "film_animal"]


def __getattr__(name: str):
    # Both bring torch along: asking for --help should not.
    if name == "animal_head":
        from data_tools.animal.head import animal_head

        return animal_head
    if name == "film_animal":
        from data_tools.animal.scene import film_animal

        return film_animal
    raise AttributeError(f"module {__name__} has no attribute {name}")
