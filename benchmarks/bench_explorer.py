"""How soon `rung3 explore` answers, and how soon its page follows a slider, in headless Chromium.

    python benchmarks/bench_explorer.py                 untrained HVAEs of 32x32 and of 192x192
    python benchmarks/bench_explorer.py runs/digits     a run of yours

Of each run, with the command started again:

    ready      from starting the command to its saying the address; and its seconds of CPU till then
    first paint, first answer      from going to the address, to the first thing that is painted
               (the browser's own record), and to pictures and values on the page
    slider     from letting go, after a drag across a tenth of the slider or more, to the picture of
               that value on the page, decoded; what was asked while dragging is still under way.
               And the CPU that the server takes for an answer, with all that follows it

Needs `rung3[web]`, playwright, and the system's chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LISTEN = """() => {
    window.times = [];
    let from = null, wanted = null;
    const close = () => {
        const set = Object.values(JSON.parse(decodeURIComponent(document.body.dataset.shown)).do);
        if (from === null || Math.abs(set[0] - wanted) > 1e-3 * Math.abs(wanted)) return;
        const began = from;
        from = null;
        requestAnimationFrame(() => window.times.push(performance.now() - began));
    };
    addEventListener("change", (event) => {
        from = performance.now();
        wanted = Number(event.target.value);
        close();
    }, true);
    const watched = { attributes: true, attributeFilter: ["data-shown"] };
    new MutationObserver(close).observe(document.body, watched);
}"""

ANSWERS = "Number(document.body.dataset.answers)"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def make_run(folder: Path, size: int) -> Path:
    """The folder of a run, untrained: digits enlarged to the size, as a table of PNG files."""
    import pandas as pd
    import torch
    from PIL import Image as Pictures

    from rung3 import SCM, Categorical, Continuous, Image, worlds
    from rung3.mechanisms import HVAE
    from rung3.study.study import Study

    folder.mkdir()
    rows = worlds.digits().sample(50, seed=0)
    table = {name: rows[name].tolist() for name in ("digit", "thickness", "intensity")}
    table["image"] = [str(folder / f"{k}.png") for k in range(50)]
    for path, image in zip(table["image"], rows["image"], strict=True):
        picture = Pictures.fromarray((image[0] * 255).byte().numpy())
        picture.resize((size, size), Pictures.Resampling.BICUBIC).save(path)
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)
    graph = "thickness -> intensity; {digit thickness intensity} -> image"
    variables = {
        "digit": Categorical(10), "thickness": Continuous(unit="px", lower=0),
        "intensity": Continuous(lower=0, upper=255), "image": Image(1, size, size),
    }  # fmt: skip
    described = {
        "name": f"hvae-{size}",
        "data": {"kind": "table", "path": str(folder / "table.csv")},
        "graph": graph,
        "variables": {name: variable.config() for name, variable in variables.items()},
        "mechanisms": {"image": {"kind": "HVAE"}},
    }
    study = Study.model_validate(described)
    study.save(folder / "study.yaml")
    torch.manual_seed(0)
    SCM(graph, variables, {"image": HVAE()}).save(folder / "model")
    return folder


@contextmanager
def explored(run: Path) -> Iterator[tuple[int, str, float]]:
    """`rung3 explore` of a run: its process, its address, and seconds until that was said."""
    command = [str(Path(sys.executable).parent / "rung3"), "explore", str(run), "--port", "0"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.pid, server.stdout.readline().strip(), time.perf_counter() - start
        finally:
            server.terminate()


def cpu(process: int) -> float:
    """Seconds of CPU that a process has taken (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drag(page: Any, name: str, share: float) -> None:
    """Take a slider where it stands, move it to a share of its length, and let it go."""
    slider = page.locator(f".node[data-name={name}] input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    stands = slider.evaluate("e => (e.value - e.min) / (e.max - e.min)")
    count = page.evaluate("window.times.length")

    def at(part: float) -> float:
        return float(box["x"] + 8 + part * (box["width"] - 16))

    page.mouse.move(at(stands), box["y"] + box["height"] / 2)
    page.mouse.down()
    for part in np.linspace(stands, share, 12)[1:]:
        page.mouse.move(at(part), box["y"] + box["height"] / 2)
        page.wait_for_timeout(16)
    page.mouse.move(at(share) + 3, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.wait_for_function(f"window.times.length > {count}")
    page.wait_for_timeout(100)


def measure(browser: Any, run: Path, name: str, moves: int) -> None:
    with explored(run) as (server, address, seconds):
        started = cpu(server)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_function("document.body.dataset.shown !== undefined")
        first = time.perf_counter() - start
        painted = page.evaluate(PAINT)
        page.locator(f".node[data-name={name}] button.head").click()
        page.locator(f".node[data-name={name}] input[type=range]").wait_for()
        page.evaluate(LISTEN)
        places: list[Any] = []
        at = 0.5
        generator = np.random.default_rng(0)
        while len(places) < moves + 3:
            new = generator.uniform(0.05, 0.9)
            if abs(new - at) > 0.1:
                places.append(at := new)
        page.wait_for_timeout(3000)  # the rows of training are read meanwhile
        before, answers = cpu(server), page.evaluate(ANSWERS)
        for share in places:
            drag(page, name, share)
        each = (cpu(server) - before) / (page.evaluate(ANSWERS) - answers)
        times = np.array(page.evaluate("window.times"))[3:]
        page.close()
    low, middle, high = np.percentile(times, [5, 50, 95])
    print(run)
    print(f"ready after {seconds:.1f} s ({started:.1f} s of CPU)")
    print(f"first paint after {painted:.0f} ms, first answer after {1000 * first:.0f} ms")
    print(f"slider, {len(times)} drags: median {middle:.0f} ms, 5 % {low:.0f}, 95 % {high:.0f}")
    print(f"CPU of the server: {1000 * each:.0f} ms an answer")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)


def main() -> None:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        print(f"{error}: left out; pip install 'rung3[web,web-test]' for it")
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--size", nargs="+", type=int, default=[32, 192], help="without a run")
    parser.add_argument("--variable", default="thickness", help="whose slider is dragged")
    parser.add_argument("--moves", type=int, default=100)
    given = parser.parse_args()
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        runs = (make_run(Path(folder) / f"hvae-{size}", size) for size in given.size)
        for run in given.runs or runs:
            measure(browser, run, given.variable, given.moves)
        browser.close()


if __name__ == "__main__":
    main()
