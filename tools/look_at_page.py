"""Look at the page of `check --html` in a browser: no overflow, nothing on the console, nothing axe objects to.

Needs Chromium or Chrome, and the extra `page`. Screenshots go to build/page, to be looked at.

usage: python tools/look_at_page.py [PAGE.html ...]     (default: pages of the fixtures)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "build" / "page"
BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
TINY = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BROKEN = ROOT / "fixtures" / "broken"
PAGES: dict[str, list[Path | str]] = {
    "ok": [TINY],
    "failed": [BROKEN / "nan"],
    "targets": [BROKEN / "missing-lora-b", "--target", "all"],
    "unread": [TINY, "--no-weights"],
    "several": [TINY, BROKEN / "nan", BROKEN / "wrong-hidden-size", ROOT / "nowhere"],
}
WIDTHS = (400, 800, 1600)
SCHEMES = ("light", "dark")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
OPEN = "document.querySelectorAll('details').forEach(item => { item.open = true; })"


def browser_path() -> str:
    """Return the browser of this machine; ends where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise SystemExit("look_at_page: no Chromium is installed (apt-get install chromium)")


def made_pages() -> list[Path]:
    """Make the pages of the fixtures."""
    made = []
    for name, arguments in PAGES.items():
        page = PICTURES / f"{name}.html"
        command = [sys.executable, "-m", "lora_packer", "check", *map(str, arguments)]
        command += ["--base-config", str(BASE), "--html", str(page), "--quiet"]
        subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL)
        made.append(page)
    return made


def faults(browser: Any, page: Path, axe: str) -> Iterator[str]:
    """Look at one page in every width and scheme; yield what is wrong."""
    for scheme in SCHEMES:
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
            tab = context.new_page()
            where = f"{page.stem} at {width}, {scheme}"
            told: list[str] = []
            tab.on("console", lambda message, told=told: told.append(message.text))
            tab.on("pageerror", lambda error, told=told: told.append(str(error)))
            tab.on("request", lambda request, told=told: told.append(f"loads {request.url}"))
            tab.goto(page.resolve().as_uri())
            tab.screenshot(path=PICTURES / f"{page.stem}-{width}-{scheme}.png", full_page=True)
            for state in ("closed", "open"):
                if (over := tab.evaluate(OVERFLOW)) > 0:
                    yield f"{where}, {state}: {over} pixels wider than the window"
                tab.evaluate(OPEN)
            yield from (f"{where}: {item}" for item in told if item != f"loads {page.resolve().as_uri()}")
            yield from (f"{where}: {item}" for item in silent_cells(tab))
            if axe:
                tab.evaluate(axe)
                for item in tab.evaluate("axe.run(document).then(found => found.violations)"):
                    yield f"{where}: {item['id']}: {item['help']}: {item['nodes'][0]['html'][:200]}"
            context.close()


def silent_cells(tab: Any) -> Iterator[str]:
    """Point at a cell of the heat map, then tap it, then ask for all numbers; yield where none shows."""
    cells = tab.locator("table.heat td[class]")
    if cells.count() == 0:
        return
    cell, number = cells.first, cells.first.locator("span")
    shows = "item => getComputedStyle(item).opacity === '1' && item.getBoundingClientRect().width > 0"
    cell.hover()
    if not number.evaluate(shows):
        yield "a cell that is pointed at does not say its number"
    tab.mouse.move(0, 0)
    cell.focus()
    if not number.evaluate(shows):
        yield "a cell that is tapped does not say its number"
    tab.locator("input.numbers").first.check()
    if tab.locator("table.heat").count() == 1 and not cells.last.locator("span").evaluate(shows):
        yield "the numbers do not show"
    tab.locator("input.numbers").first.uncheck()


def main() -> int:
    """Look at the pages; exit 1 where something is wrong."""
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(parents=True, exist_ok=True)
    given = [Path(name) for name in sys.argv[1:]]
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        for page in given or made_pages():
            # axe takes minutes over the hundreds of cells of a big adapter.
            wrong += list(faults(browser, page, "" if given else axe))
            print(f"looked at {page.name}", flush=True)
        browser.close()
    print("\n".join(wrong) or f"nothing is wrong; the pictures are in {PICTURES.relative_to(ROOT)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
