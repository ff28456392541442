// The report that a load test leaves: a page of its own which needs neither script nor network, with plots that show something, in
// light and dark. Its picture for the documentation is written only when a directory for it is named.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { stage } from "./world.mjs";

const world = stage();
const into = process.env.GOCHAT_PICTURES;

/** Runs the tool to its end; a slow machine makes a run invalid, which is exit code 2 and has a report too. */
async function loadTest(...args) {
  const child = spawn(process.env.GOCHAT_LOADTEST_BIN, ["run", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (data) => (said += data));
  const code = await new Promise((resolve) => child.once("close", resolve));
  assert.ok(code === 0 || code === 2, `exit code ${code}: ${said}`);
  assert.match(said, / 0 lost, 0 unacked/);
}

/** What each plot shows: axes with numbers, and lines with a length and a box. */
const plots = (page) =>
  page.locator("figure").evaluateAll((figures) =>
    figures.map((figure) => ({
      title: figure.querySelector("figcaption").textContent,
      x: [...figure.querySelectorAll("text.x")].map((label) => label.textContent),
      y: [...figure.querySelectorAll("text.y")].map((label) => label.textContent),
      units: [...figure.querySelectorAll("text.unit")].map((label) => label.textContent),
      legend: [...figure.querySelectorAll(".legend li")].map((item) => item.textContent),
      lines: [...figure.querySelectorAll("path")].map((path) => ({ length: path.getTotalLength(), width: path.getBBox().width, colour: getComputedStyle(path).stroke })),
    })),
  );

test("the report of a run draws it", async () => {
  const dir = await mkdtemp(join(tmpdir(), "gochat-report-"));
  const file = join(dir, "report.html");
  try {
    await loadTest("single", "--url", world.server.base, "--pairs", "10", "--rate", "100", "--warmup", "1s", "--duration", "6s",
      "--server-pid", String(world.server.pid), "--html", file);
    const context = await world.browser.newContext({ viewport: { width: 860, height: 1200 }, colorScheme: "light", javaScriptEnabled: true });
    const page = await context.newPage();
    const asked = [];
    const complaints = [];
    page.on("request", (request) => asked.push(request.url()));
    page.on("console", (message) => complaints.push(message.text()));
    await context.setOffline(true);
    await page.goto(pathToFileURL(file).href);
    assert.deepEqual(asked.filter((url) => !url.startsWith("file:")), [], "it opens without a network");
    assert.deepEqual(complaints, []);

    const seen = await plots(page);
    assert.deepEqual(seen.map(({ title }) => title), [
      "Rates", "Latency to the acknowledgement", "Latency to the delivery", "Percentiles of the measured phase", "Connections", "CPU", "Memory",
    ]);
    for (const { title, x, y, units, legend, lines } of seen) {
      assert.ok(x.length >= 2 && y.length >= 2 && [...x, ...y].every((label) => /^\d/.test(label)), `${title}: ${x} ${y}`);
      assert.ok(units.length === 2 && units.every(Boolean), `${title}: ${units}`);
      assert.equal(legend.length, lines.length, title);
      for (const { length, width } of lines) assert.ok(length > 300 && width > 300, `${title}: a line of ${length}, ${width} wide`);
    }
    const [, , , curve, , cpu, memory] = seen;
    assert.deepEqual(curve.x.slice(0, 3), ["0 %", "90 %", "99 %"]);
    assert.deepEqual(curve.legend, ["ack", "deliver", "ack, service", "deliver, service"]);
    assert.deepEqual([cpu.legend, memory.legend[0]], [["server", "generator"], "server, resident"]);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.equal(wide, 860, "nothing sticks out sideways");
    if (into) await page.screenshot({ path: join(into, "loadtest-report.png"), fullPage: true });

    await page.emulateMedia({ colorScheme: "dark" });
    const colours = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]);
    assert.deepEqual(colours, ["rgb(20, 23, 28)", "rgb(230, 233, 238)"]);
    assert.notEqual((await plots(page))[0].lines[0].colour, seen[0].lines[0].colour);
    await context.close();
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
