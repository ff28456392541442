//! The tests of the page and of the load tool's report, in a headless browser against a really running server. Owns what they
//! need: Node, Chromium, and the library that drives it, which is installed into the target directory.

use crate::process::{Outcome, Step, tools_dir, workspace_root};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const DRIVER: &str = "playwright-core@1.65.1";
const CHROMIUM: &str = "/usr/bin/chromium";

/// What the report of a test run says of it.
pub(crate) const COMPONENTS: &str = "Chromium, driven by playwright-core@1.65.1 on Node";

/// Installs what is missing, builds the server and runs the tests; with `pictures` those of the documentation are taken
/// anew.
pub(crate) fn run(pictures: bool) -> Outcome {
    let tools = driver()?;
    chromium()?;
    Step::cargo("server for the browser", ["build", "--locked", "-p", "gochat", "-p", "gochat-loadtest", "--bins"])
        .run()?;
    let mut files: Vec<_> = std::fs::read_dir(workspace_root().join("tests/browser"))
        .map_err(|e| format!("tests/browser: {e}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    // One file at a time: each has a server and a browser of its own.
    let arguments = ["--test", "--test-concurrency=1"].iter().map(PathBuf::from).chain(files);
    let mut step = Step::program("browser", "node", arguments)
        .env("GOCHAT_BIN", tools_dir().join("../debug/gochat"))
        .env("GOCHAT_LOADTEST_BIN", tools_dir().join("../debug/gochat-loadtest"))
        .env("GOCHAT_TOOLS", tools)
        .env("GOCHAT_CHROMIUM", CHROMIUM);
    if pictures {
        step = step.env("GOCHAT_PICTURES", workspace_root().join("docs/images"));
    }
    step.run()
}

/// The directory that holds the driver.
fn driver() -> Outcome<PathBuf> {
    let tools = tools_dir().join("browser");
    if !answers("npm") {
        Step::program("install Node", "apt-get", ["install", "--yes", "nodejs", "npm"]).run()?;
    }
    let stamp = tools.join(DRIVER);
    if stamp.exists() {
        return Ok(tools);
    }
    let fail = |e: std::io::Error| format!("{}: {e}", tools.display());
    std::fs::create_dir_all(&tools).map_err(fail)?;
    let at = tools.to_string_lossy().into_owned();
    let arguments = ["install", "--prefix", &at, "--no-audit", "--no-fund", "--silent", DRIVER];
    Step::program("install the browser's driver", "npm", arguments).run()?;
    std::fs::write(&stamp, "").map_err(fail)?;
    Ok(tools)
}

fn chromium() -> Outcome {
    if answers(CHROMIUM) {
        return Ok(());
    }
    Step::program("look for packages", "apt-get", ["update", "--quiet"]).run()?;
    let packages = ["install", "--yes", "--quiet", "chromium", "fonts-noto-core", "fonts-noto-color-emoji"];
    Step::program("install Chromium", "apt-get", packages).env("DEBIAN_FRONTEND", "noninteractive").run()
}

fn answers(program: &str) -> bool {
    let quiet = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
