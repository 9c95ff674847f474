//! The screen on a real terminal: a pseudo-terminal that the program is the foreground process of, read by a terminal emulator.
//!
//! `ROOST_SCREEN_HTML=FILE` keeps the screen of the first test, for docs/screenshots/screen.png.

mod common;

use common::{Fault, echo_server};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A busy machine may take long for a second's figures.
const WAIT_MAX: Duration = Duration::from_mins(1);

const ROWS: NonZero<u16> = NonZero::new(30).expect("not zero");
const COLUMNS: NonZero<u16> = NonZero::new(100).expect("not zero");

/// The program on a terminal of 100 x 30; killed when dropped.
struct OnTerminal {
    child: Child,
    keys: File,
    terminal: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl OnTerminal {
    fn start(arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        // A session of its own makes the terminal its controlling one, as a shell's is.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_roost-loadgen")]).args(arguments);
        command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("setsid(1) is part of every Debian");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (shown, mut out) = (screen.clone(), File::from(master.try_clone().expect("a descriptor")));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut bytes) {
                shown.lock().expect("no panic").process(&bytes[..length]);
            }
        });
        Self { child, keys: File::from(master), terminal: slave, screen }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    /// Waits for a text on the screen while the program runs.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + WAIT_MAX;
        while Instant::now() < end {
            let shown = self.text();
            if shown.contains(text) {
                return;
            }
            assert!(self.child.try_wait().expect("a child").is_none(), "ended without {text}:\n{shown}");
            thread::park_timeout(Duration::from_millis(20));
        }
        panic!("never showed {text}:\n{}", self.text());
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Waits for the program's end; its exit code.
    fn end(&mut self) -> i32 {
        let end = Instant::now() + WAIT_MAX;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().expect("not ended by a signal");
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        panic!("does not end:\n{}", self.text());
    }

    /// Whether the text is there in the end, once all that was written has been read.
    fn wait_for_text(&self, text: &str) -> bool {
        let end = Instant::now() + WAIT_MAX;
        while !self.text().contains(text) && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(20));
        }
        self.text().contains(text)
    }

    /// Whether the terminal echoes, reads lines and shows what was there before.
    fn is_restored(&self) -> bool {
        let flags = tcgetattr(&self.terminal).expect("a terminal").local_flags;
        let screen = self.screen.lock().expect("no panic");
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
            && !screen.screen().alternate_screen()
            && !screen.screen().hide_cursor()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It may have ended already; the program ends with its terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn html(parser: &vt100::Parser) -> String {
    let color = |color: vt100::Color, plain: &str| match color {
        vt100::Color::Default => plain.to_owned(),
        vt100::Color::Idx(index) => {
            const NAMED: [&str; 16] = [
                "#1c2128", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#d2a8ff", "#39c5cf", "#b1bac4",
                "#56606b", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#e2c5ff", "#56d4dd", "#ffffff",
            ];
            NAMED.get(usize::from(index)).copied().unwrap_or(plain).to_owned()
        }
        vt100::Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    };
    let mut text = String::from(
        "<!doctype html><meta charset=utf-8><body style='margin:0;background:#0d1117'><pre style='margin:16px;\
        font:16px/20px \"DejaVu Sans Mono\",monospace;color:#e6edf3'>",
    );
    for row in 0..ROWS.get() {
        for column in 0..COLUMNS.get() {
            let Some(cell) = parser.screen().cell(row, column) else { continue };
            let content = if cell.has_contents() { cell.contents() } else { " " };
            let weight = if cell.bold() { "bold" } else { "normal" };
            let escaped = content.replace('&', "&amp;").replace('<', "&lt;");
            let _ = write!(
                text,
                "<span style='display:inline-block;width:10px;color:{};font-weight:{weight}'>{escaped}</span>",
                color(cell.fgcolor(), "#e6edf3")
            );
        }
        text.push('\n');
    }
    text
}

#[test]
fn q_ends_the_run_with_a_report_of_what_was_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let url = format!("ws://{}/", echo_server(Fault::None));
    let json_file = file.to_str().expect("text");
    let pid = std::process::id().to_string();
    let mut run = OnTerminal::start(&[
        "echo",
        "--url",
        &url,
        "--clients",
        "20",
        "--rate-per-s",
        "400",
        "--duration-s",
        "600",
        "--lag-us-max",
        "60000000",
        "--gateway-pid",
        &pid,
        "--json",
        json_file,
    ]);
    run.wait_for("q ends the run with a report");
    run.wait_for("p99.9");
    assert!(run.screen.lock().expect("no panic").screen().alternate_screen());
    if let Some(kept) = std::env::var_os("ROOST_SCREEN_HTML") {
        run.wait_for("run    575 s left");
        std::fs::write(kept, html(&run.screen.lock().expect("no panic"))).expect("written");
    }
    let shown = run.text();
    for text in
        ["Connections", "open 20 of 20", "Messages a second", "Latency in the last second", "Memory and CPU"]
    {
        assert!(shown.contains(text), "{text}:\n{shown}");
    }
    run.press("q");
    let code = run.end();
    let report: Value = serde_json::from_slice(&std::fs::read(&file).expect("a report")).expect("JSON");
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!((&report["ended_early"]["by"], &report["ended_early"]["phase"]), (&json!("q"), &json!("run")));
    assert!(
        report["duration_s"].as_f64() < Some(500.0) && report["messages_sent"].as_u64() > Some(0),
        "{report:#}"
    );
    assert_eq!(report["messages_unanswered"], json!(0));
    assert!(run.is_restored());
    // The summary stands on the terminal that was there before.
    assert!(run.wait_for_text("ENDED     by q in the run"), "{}", run.text());
}

#[test]
fn q_again_gives_up_at_once_and_leaves_the_terminal_as_it_was() {
    let url = format!("ws://{}/", echo_server(Fault::Swallow));
    let mut run = OnTerminal::start(&[
        "echo",
        "--url",
        &url,
        "--clients",
        "2",
        "--rate-per-s",
        "200",
        "--duration-s",
        "600",
        "--drain-s",
        "600",
        "--in-flight",
        "9",
    ]);
    run.wait_for("p99.9");
    run.press("\u{3}");
    run.wait_for("ending (q)");
    run.press("q");
    assert_eq!(run.end(), 130);
    assert!(run.is_restored());
}
