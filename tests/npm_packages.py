"""Packages of npm that tests need: exactly as locked, installed once into `build/` and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from foreign.servers import needed

_BUILD = Path(__file__).parents[1] / "build"


def install_packages(folder: Path) -> Path:
    """Give the `node_modules` of what a folder's `package.json` and `package-lock.json` name."""
    npm = needed("npm", "npm")
    name = f"{folder.name}-{hashlib.sha256((folder / 'package-lock.json').read_bytes()).hexdigest()[:12]}"
    kept = _BUILD / name
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=kept.parent))
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(folder / file, draft)
        subprocess.run([npm, "ci"], cwd=draft, check=True, capture_output=True, timeout=240)
        try:
            draft.rename(kept)
        except OSError:
            # Another test process was faster.
            shutil.rmtree(draft)
    return kept / "node_modules"
