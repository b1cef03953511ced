from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from llm.catalog import lookup
from llm.catalog.profiles import PACKAGES, make_catalog


class Command(BaseCommand):
    help = "Make the catalog of known models anew, from a folder that the packages with their profiles are in."

    def add_arguments(self, parser: CommandParser) -> None:
        packages = " ".join(sorted(package.replace("_", "-") for package in PACKAGES.values()))
        parser.add_argument("folder", type=Path, help=f"pip install --no-deps --target FOLDER {packages}")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        try:
            made = make_catalog(folder, timezone.now().date())
        except FileNotFoundError as error:
            raise CommandError(f"{error.filename} is missing: install the packages that --help names.") from None
        lookup.FILE.write_text(written(made))
        count = sum(map(len, made.vendors.values()))
        self.stdout.write(f"{count} models. Now run: manage.py model_matrix")


def written(made: lookup.Catalog) -> str:
    """JSON with a line for each model, so that a change reads as one."""
    head = {"as_of": made.as_of, "sources": made.sources, "attribution": made.attribution}
    lines = [f"{_json(name)}: {_json(value)}," for name, value in head.items()]
    vendors = [
        f"{_json(vendor)}: {{\n"
        + ",\n".join(f"{_json(model)}: {_json(entry)}" for model, entry in found.items())
        + "\n}"
        for vendor, found in made.vendors.items()
    ]
    return "{\n" + "\n".join(lines) + '\n"vendors": {\n' + ",\n".join(vendors) + "\n}\n}\n"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
