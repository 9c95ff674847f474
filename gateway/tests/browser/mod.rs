//! Headless Chromium through chromedriver, with the steps the page's test is written in.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::DEADLINE;

mod admin;
mod echo;

const INSTALL: &str = "install them: apt-get install -y chromium chromium-driver";

/// Whether the pictures of the documentation are taken anew.
pub fn pictures_are_wanted() -> bool {
    std::env::var_os("ROOST_SCREENSHOTS").is_some_and(|wanted| wanted == "1")
}

/// A chromedriver process and, in its process group, its browsers.
pub struct Driver {
    process: Child,
    url: String,
}

/// What kind of screen a browser shows the page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    DesktopLight,
    WideLight,
    PhoneDark,
}

/// What a page has written where somebody may read it later.
#[derive(Debug, Deserialize)]
pub struct Kept {
    pub url: String,
    /// Of this tab, until it is closed.
    pub tab: String,
    /// Of the browser, for ever, and cookies.
    pub local: String,
}

/// One browser with a profile of its own.
pub struct Browser {
    client: Client,
    _profile: TempDir,
}

impl Driver {
    /// Starts chromedriver on a free port.
    pub fn start() -> Result<Self> {
        for program in ["chromium", "chromedriver"] {
            let found =
                Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            ensure!(found.is_ok(), "this test needs {program}, which is not here; {INSTALL}");
        }
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("chromedriver does not start; {INSTALL}"))?;
        let stdout = process.stdout.take().context("stdout is piped")?;
        let mut driver = Self { process, url: String::new() };
        let (sender, receiver) = mpsc::channel();
        // Reads to the end, so that chromedriver never writes into a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let port = line.strip_suffix('.').and_then(|line| line.split("successfully on port ").nth(1));
                if let Some(port) = port {
                    let _ = sender.send(port.to_owned());
                }
            }
        });
        let port = receiver.recv_timeout(DEADLINE).context("chromedriver names no port")?;
        driver.url = format!("http://127.0.0.1:{port}");
        Ok(driver)
    }

    /// Opens a browser that nothing is known to.
    pub async fn open(&self, look: Look) -> Result<Browser> {
        let profile = TempDir::new()?;
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let mut options = json!({});
        match look {
            Look::DesktopLight => arguments.push("--window-size=1180,900".to_owned()),
            Look::WideLight => arguments.push("--window-size=1500,1000".to_owned()),
            Look::PhoneDark => {
                // 0 is dark in Chromium's settings.
                arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
                options["mobileEmulation"] =
                    json!({ "deviceMetrics": { "width": 390, "height": 780, "pixelRatio": 2.0 } });
            }
        }
        options["args"] = json!(arguments);
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let Value::Object(capabilities) = capabilities else { bail!("capabilities are an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.url)
            .await
            .with_context(|| format!("Chromium does not start; {INSTALL}"))?;
        Ok(Browser { client, _profile: profile })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browsers are of the same group: after a failure nobody has closed them.
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.process.id())]).status();
        let _ = self.process.wait();
    }
}

impl Browser {
    pub async fn goto(&self, url: &str) -> Result<()> {
        Ok(self.client.goto(url).await?)
    }

    /// Leaves the page for an empty one; returns where it was.
    pub async fn leave(&self) -> Result<String> {
        let url = self.client.current_url().await?.to_string();
        self.goto("about:blank").await?;
        Ok(url)
    }

    /// Opens the same page in another window and stays there; returns the first one.
    pub async fn second_window(&self) -> Result<WindowHandle> {
        let (first, url) = (self.client.window().await?, self.client.current_url().await?);
        let second = self.client.new_window(true).await?;
        self.client.switch_to_window(second.handle).await?;
        self.goto(url.as_str()).await?;
        Ok(first)
    }

    /// The window this browser's steps go to.
    pub async fn window(&self) -> Result<WindowHandle> {
        Ok(self.client.window().await?)
    }

    /// The next steps go to another window; none is closed.
    pub async fn switch_to(&self, window: &WindowHandle) -> Result<()> {
        Ok(self.client.switch_to_window(window.clone()).await?)
    }

    /// Loads the page anew.
    pub async fn reload(&self) -> Result<()> {
        Ok(self.client.refresh().await?)
    }

    /// Closes this window and returns to another.
    pub async fn back_to(&self, window: WindowHandle) -> Result<()> {
        self.client.close_window().await?;
        Ok(self.client.switch_to_window(window).await?)
    }

    pub async fn close(self) -> Result<()> {
        Ok(self.client.close().await?)
    }

    pub async fn click(&self, css: &str) -> Result<()> {
        Ok(self.client.wait().at_most(DEADLINE).for_element(Locator::Css(css)).await?.click().await?)
    }

    /// The visible text of the first such element, empty where there is none.
    pub async fn text(&self, css: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        Ok(self.client.execute(script, vec![json!(css)]).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until such an element shows a text with `part` in it.
    pub async fn shows(&self, css: &str, part: &str) -> Result<()> {
        let what = format!("{css} shows {part:?}");
        self.until(&what, || self.text(css), |text| text.contains(part)).await.map(drop)
    }

    /// Waits until such an element shows this text and nothing else.
    pub async fn shows_exactly(&self, css: &str, text: &str) -> Result<()> {
        self.until(&format!("{css} shows exactly {text:?}"), || self.text(css), |seen| seen == text)
            .await
            .map(drop)
    }

    /// Waits until such an element shows something else than this.
    pub async fn changes_from(&self, css: &str, text: &str) -> Result<()> {
        let is_other = |seen: &String| !seen.is_empty() && seen != text;
        self.until(&format!("{css} shows something else than {text:?}"), || self.text(css), is_other)
            .await
            .map(drop)
    }

    /// Waits until there are so many of such elements.
    pub async fn counts(&self, css: &str, count: u64) -> Result<()> {
        let script = "return document.querySelectorAll(arguments[0]).length";
        let found = || async { Ok(self.client.execute(script, vec![json!(css)]).await?.as_u64()) };
        self.until(&format!("{count} of {css}"), found, |found| *found == Some(count)).await.map(drop)
    }

    /// Waits until a curve has so many points.
    pub async fn waits_for_curve(&self, css: &str, points: usize) -> Result<()> {
        let script = "return document.querySelector(arguments[0])?.getAttribute('d') ?? ''";
        let curve = || async { Ok(self.client.execute(script, vec![json!(css)]).await?.to_string()) };
        self.until(&format!("{points} points in {css}"), curve, |d| d.matches('L').count() >= points)
            .await
            .map(drop)
    }

    /// A computed style of the first such element.
    pub async fn computed(&self, css: &str, property: &str) -> Result<String> {
        let script =
            "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])";
        let value = self.client.execute(script, vec![json!(css), json!(property)]).await?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// The page is not wider than its window: nobody has to scroll to the side.
    pub async fn fits_its_window(&self) -> Result<()> {
        let script = "return [document.documentElement.scrollWidth, window.innerWidth]";
        let (page, window): (u64, u64) = serde_json::from_value(self.client.execute(script, vec![]).await?)?;
        ensure!(page <= window, "the page is {page} wide, its window {window}");
        Ok(())
    }

    /// What the page has written where somebody may read it later.
    pub async fn everything_kept(&self) -> Result<Kept> {
        let script = "return { url: location.href + document.referrer,
            tab: JSON.stringify(sessionStorage), local: JSON.stringify(localStorage) + document.cookie }";
        Ok(serde_json::from_value(self.client.execute(script, vec![]).await?)?)
    }

    /// Fills a field.
    pub async fn fill(&self, css: &str, value: &str) -> Result<()> {
        let field = self.client.wait().at_most(DEADLINE).for_element(Locator::Css(css)).await?;
        field.clear().await?;
        Ok(field.send_keys(value).await?)
    }

    /// Fills the card for signing in, on one of its tabs, and sends it.
    pub async fn fill_door(&self, tab: &str, user: &str, password: &str) -> Result<()> {
        self.click(&format!("#{tab}")).await?;
        for (field, value) in [("#user", user), ("#password", password)] {
            let field = self.client.find(Locator::Css(field)).await?;
            field.clear().await?;
            field.send_keys(value).await?;
        }
        self.click("#door-submit").await
    }

    pub async fn open_conversation(&self, peer: &str) -> Result<()> {
        let field = self.client.find(Locator::Css("#new-peer")).await?;
        field.send_keys(&format!("{peer}\n")).await?;
        self.shows("#peer-number", peer).await
    }

    /// Types a message and Enter.
    pub async fn write(&self, text: &str) -> Result<()> {
        // The driver types characters of the basic plane only; a person's keyboard knows more.
        let script = "document.querySelector('#text').value = arguments[0];";
        self.client.execute(script, vec![json!(text)]).await?;
        let field = self.client.find(Locator::Css("#text")).await?;
        Ok(field.send_keys("\n").await?)
    }

    /// Sends `count` messages as fast as the page takes them.
    pub async fn write_burst(&self, text: &str, count: usize) -> Result<()> {
        let script = "for (let n = 0; n < arguments[1]; n += 1) {
            document.querySelector('#text').value = `${arguments[0]} ${n}`;
            document.querySelector('#composer').requestSubmit();
        }";
        self.client.execute(script, vec![json!(text), json!(count)]).await?;
        Ok(())
    }

    /// Lets the next message out and closes the socket behind it: the server takes it, and its answer is not heard.
    pub async fn lose_next_answer(&self) -> Result<()> {
        let script = "const original = WebSocket.prototype.send;
            WebSocket.prototype.send = function (frame) {
                original.call(this, frame);
                if (!('send' in JSON.parse(frame))) return;
                WebSocket.prototype.send = original;
                this.close();
            };";
        self.client.execute(script, vec![]).await?;
        Ok(())
    }

    /// Waits until the page has sent `count` heartbeats from now on: frames without a body.
    pub async fn beats(&self, count: u64) -> Result<()> {
        let script = "const original = WebSocket.prototype.send;
            window.beats = 0;
            WebSocket.prototype.send = function (frame) {
                window.beats += Object.keys(JSON.parse(frame)).every((name) => name === 'id') ? 1 : 0;
                original.call(this, frame);
            };";
        self.client.execute(script, vec![]).await?;
        let beats = || async {
            Ok(self.client.execute("return window.beats", vec![]).await?.as_u64().unwrap_or_default())
        };
        self.until("heartbeats", beats, |seen| *seen >= count).await.map(drop)
    }

    /// Spoils the token this window keeps and loads the page anew.
    pub async fn spoil_token(&self) -> Result<()> {
        let script = "const key = 'roost.v1.tab';
            const account = JSON.parse(sessionStorage.getItem(key));
            sessionStorage.setItem(key, JSON.stringify({ ...account, token: `${account.token}x` }));";
        self.client.execute(script, vec![]).await?;
        self.reload().await
    }

    /// The open conversation, a line a message: `in <text>` or `out <state> <text>`.
    pub async fn messages(&self) -> Result<Vec<String>> {
        let script = "return [...document.querySelectorAll('.message')].map((message) => {
            const text = message.querySelector('.text').textContent;
            return message.classList.contains('out') ? `out ${message.dataset.state} ${text}` : `in ${text}`;
        })";
        Ok(serde_json::from_value(self.client.execute(script, vec![]).await?)?)
    }

    /// Waits until the open conversation is exactly these messages.
    pub async fn sees<T: AsRef<str>>(&self, expected: &[T]) -> Result<()> {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        self.until(&format!("messages {expected:#?}"), || self.messages(), |seen| *seen == expected)
            .await
            .map(drop)
    }

    /// Waits until the messages of one direction are exactly those of `before` and then `after`.
    pub async fn sees_among(&self, direction: &str, before: &[String], after: &[String]) -> Result<()> {
        let of = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| line.starts_with(direction)).cloned().collect()
        };
        let expected = [of(before), after.to_vec()].concat();
        self.until(&format!("{direction} {expected:#?}"), || self.messages(), |seen| of(seen) == expected)
            .await
            .map(drop)
    }

    /// Waits until some message behind the first `count` has been answered by the server.
    pub async fn has_answers_beyond(&self, count: usize) -> Result<()> {
        let answered = |line: &String| line.starts_with("out") && !line.starts_with("out queued");
        self.until("an answer", || self.messages(), |seen| seen.iter().skip(count).any(answered))
            .await
            .map(drop)
    }

    /// As [`Self::picture`], of the whole page, however long it is.
    pub async fn picture_whole(&self, name: &str) -> Result<()> {
        let size = "return [window.innerWidth, document.documentElement.scrollHeight]";
        let (width, height): (u32, u32) = serde_json::from_value(self.client.execute(size, vec![]).await?)?;
        self.client.set_window_size(width, height + 150).await?;
        self.picture(name).await
    }

    /// Takes a picture for the documentation, where that is asked for.
    pub async fn picture(&self, name: &str) -> Result<()> {
        if !pictures_are_wanted() {
            return Ok(());
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/screenshots");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await?)?;
        Ok(())
    }

    /// Looks again and again until what it sees is accepted.
    async fn until<T, F>(&self, what: &str, look: impl Fn() -> F, accept: impl Fn(&T) -> bool) -> Result<T>
    where
        T: std::fmt::Debug,
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = look().await?;
            if accept(&seen) {
                return Ok(seen);
            }
            ensure!(Instant::now() < deadline, "waited in vain for: {what}\nlast seen: {seen:#?}");
        }
    }
}
