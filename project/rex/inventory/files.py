"""Reading an inventory file, whichever of the two forms it has."""

from __future__ import annotations

from pathlib import Path

from project.rex.inventory.errors import InventoryError, Place
from project.rex.inventory.groups import GroupTree
from project.rex.inventory.ini_form import read_ini
from project.rex.inventory.selection import Inventory
from project.rex.inventory.yaml_form import read_yaml

YAML_SUFFIXES = frozenset({".yml", ".yaml", ".json"})


def load(path: str | Path) -> Inventory:
    """Read the inventory at ``path``: YAML by its suffix (.yml, .yaml, .json), otherwise INI.

    Raises ``InventoryError`` if the file cannot be read, is malformed or holds no host.
    """
    path = Path(path)
    tree = GroupTree(str(path))
    reader = read_yaml if path.suffix.lower() in YAML_SUFFIXES else read_ini
    reader(_text(path), tree)
    hosts = tree.hosts()
    if not hosts:
        raise InventoryError("there is no host in it", "add one", Place(str(path)))
    return Inventory(hosts, tree.groups)


def _text(path: Path) -> str:
    place = Place(str(path))
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        remedy = "check the path, which counts from the current folder"
        raise InventoryError("there is no such file", remedy, place) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise InventoryError(problem, "save the file as UTF-8", place) from None
    except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
        raise InventoryError(problem, "name a file that this user may read", place) from None
