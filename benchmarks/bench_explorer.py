"""From a slider that moves to the new picture on the page, in headless Chromium.

    python benchmarks/bench_explorer.py [RUN]     without a run: the tour's VAE, untrained

The clock starts as the slider's event is sent and stops when the new picture is decoded and in the
page. Needs `rung3[web]`, playwright, and the system's chromium.
"""

import shutil
import sys
import threading
import time

import numpy as np
import torch
import uvicorn
from playwright.sync_api import sync_playwright

from rung3 import SCM, worlds
from rung3.explorer import Opened, Session, open_runs
from rung3.explorer.server import application
from rung3.mechanisms import VAE

MOVES = 100

MOVE = """async ([name, share]) => {
    const slider = document.querySelector(`.node[data-name=${name}] input[type=range]`);
    const before = Number(document.body.dataset.answers);
    const value = Number(slider.min) + share * (slider.max - slider.min);
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    while (Number(document.body.dataset.answers) === before) {
        await new Promise(requestAnimationFrame);
    }
    return performance.now() - start;
}"""


def session() -> Session:
    if len(sys.argv) > 1:
        return Session(*open_runs(sys.argv[1:]))
    world = worlds.digits()
    torch.manual_seed(0)
    model = SCM(world.graph, world.variables, {"image": VAE(latent=16)}).eval()
    return Session([Opened("vae", model, world.sample(20, seed=1))])


def main() -> None:
    asked = session()
    server = uvicorn.Server(uvicorn.Config(application(asked), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    name = next(k for k, v in asked.variables.items() if not v.shape and v.kind == "continuous")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        start = time.perf_counter()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_function("document.body.dataset.settled !== undefined")
        first = time.perf_counter() - start
        page.locator(f".node[data-name={name}] button.head").click()
        page.locator(f".node[data-name={name}] input[type=range]").wait_for()
        shares = np.random.default_rng(0).uniform(0.1, 0.9, MOVES + 5)
        times = np.array([page.evaluate(MOVE, [name, float(share)]) for share in shares])[5:]
        browser.close()
    server.should_exit = True
    low, middle, high = np.percentile(times, [5, 50, 95])
    print(f"page with its first picture: {1000 * first:.0f} ms")
    print(f"slider to picture, ms ({MOVES} moves):")
    print(f"median {middle:.0f}, 5 % {low:.0f}, 95 % {high:.0f}")


if __name__ == "__main__":
    main()
