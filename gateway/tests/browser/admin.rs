//! The operators' page in a browser: who shows no token sees nothing; who does sees the figures move, and a user's connections.

use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use roost_client::{Client, harness::Gateway};
use roost_proto::codec::Encoding;

use super::{Browser, Driver, Look, pictures_are_wanted};

const USER: u64 = 4_917_000_001;

/// Two programs that write to each other until this is dropped.
struct Talk {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Talk {
    fn start(gateway: &Gateway) -> Result<Self> {
        let (mut alice, _) = gateway.connect(USER, 1, Encoding::Json)?;
        let (bob, _) = gateway.connect(USER + 1, 1, Encoding::Proto)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let _listens = bob;
            for n in 0_u64.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                // Nobody acknowledges: what Bob is not sent waits on disk.
                alice.say(USER + 1, &n.to_be_bytes(), b"Is the ferry on time?")?;
            }
            Ok(())
        });
        Ok(Self { over, thread: Some(thread) })
    }

    fn stop(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .context("stopped once")?
            .join()
            .map_err(|_| anyhow::anyhow!("the talk panicked"))?
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn operators_see_the_gateway_live_and_nobody_else_does() -> Result<()> {
    // Programs that never pause are beyond what a user may send.
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("roost.toml");
    std::fs::write(&config, "[limits]\nsends = \"off\"\nconnection_frames = \"off\"\n")?;
    let [config, root] = [&config, folder.path()].map(|path| path.to_str().context("UTF-8"));
    let gateway = Gateway::start(&["--shards", "2", "--config", config?, "--system-root", root?])?;
    let driver = Driver::start()?;
    for look in [Look::WideLight, Look::PhoneDark] {
        let browser = driver.open(look).await?;
        let ended = scenario(&gateway, &browser, look, folder.path()).await;
        if ended.is_err() {
            eprintln!("{}", browser.text("body").await.unwrap_or_default());
        }
        browser.close().await?;
        ended?;
    }
    Ok(())
}

async fn scenario(gateway: &Gateway, browser: &Browser, look: Look, root: &Path) -> Result<()> {
    let token = std::fs::read_to_string(gateway.data().join("operator-token"))?;
    browser.goto(&format!("http://{}/admin", gateway.http)).await?;
    browser.shows("#door h1", "Roost").await?;
    ensure!(browser.computed("#board", "display").await? == "none", "figures are shown before the token is");
    browser.counts(".tile", 0).await?;
    for wrong in [gateway.token(USER, 1)?, "a guess".to_owned()] {
        browser.fill("#token", &wrong).await?;
        browser.click("#door-submit").await?;
        browser.shows("#door-error", "oken").await?;
    }
    browser.fill("#token", token.trim_end()).await?;
    browser.click("#door-submit").await?;
    browser.shows("#status", "Running for").await?;

    live(gateway, browser, look).await?;
    user(gateway, browser).await?;
    browser.fits_its_window().await?;
    let background = browser.computed("body", "background-color").await?;
    let expected = if look == Look::PhoneDark { "rgb(16, 20, 19)" } else { "rgb(246, 245, 241)" };
    ensure!(background == expected, "{background} is not the ground of {look:?}");

    let seen = browser.everything_kept().await?;
    ensure!(!seen.url.contains(token.trim_end()) && !seen.local.contains(token.trim_end()), "{seen:?}");
    // A page that is loaded anew is still signed in; one that is signed out keeps nothing.
    browser.reload().await?;
    browser.shows("#status", "Running for").await?;
    if look == Look::PhoneDark {
        // The last of them: nobody is let in from here on.
        stall(root)?;
        browser.shows("#status", "nobody new is let in: memory_stall").await?;
    }
    browser.click("#sign-out").await?;
    browser.shows("#door-submit", "Show").await?;
    let seen = browser.everything_kept().await?;
    ensure!(!seen.tab.contains(token.trim_end()), "{seen:?}");
    browser.reload().await?;
    browser.shows("#door-submit", "Show").await
}

/// Short memory, as the kernel tells of it.
fn stall(root: &Path) -> Result<()> {
    std::fs::create_dir(root.join("proc"))?;
    let line = |name| format!("{name} avg10=90.00 avg60=0.00 avg300=0.00 total=1\n");
    std::fs::create_dir(root.join("proc/pressure"))?;
    std::fs::write(root.join("proc/pressure/memory"), line("some") + &line("full"))?;
    Ok(())
}

/// The figures move without a hand on the page.
async fn live(gateway: &Gateway, browser: &Browser, look: Look) -> Result<()> {
    let shown = "#tile-connections dd";
    browser.shows_exactly(shown, "0").await?;
    let talk = Talk::start(gateway)?;
    browser.shows_exactly(shown, "2").await?;
    let idle: Vec<(Client, _)> =
        (1..=7).map(|device| gateway.connect(USER + 2, device, Encoding::Json)).collect::<Result<_>>()?;
    browser.shows_exactly(shown, "9").await?;
    browser.changes_from("#tile-messages dd", "0").await?;
    browser.changes_from("#tile-send dd", "–").await?;
    browser.changes_from("#tile-commit dd", "–").await?;
    browser.shows("#tile-memory .more", "1000 connections").await?;
    browser.shows("#tile-resident dd", "MiB").await?;
    browser.counts("#shards tr", 3).await?;
    browser.counts("#partitions .partition", 16).await?;
    browser.counts("#threads tr", 2).await?;
    let pictured = look == Look::WideLight && pictures_are_wanted();
    browser.waits_for_curve("#tile-messages path.line", if pictured { 50 } else { 4 }).await?;
    browser.fill("#user", &(USER + 2).to_string()).await?;
    browser.click("#user-form button").await?;
    browser.shows("#user-note", "7 connections").await?;
    if pictured {
        browser.picture_whole("admin").await?;
    }
    talk.stop()?;
    drop(idle);
    browser.shows_exactly(shown, "0").await?;
    browser.shows("#ends", "Peer gone without a word").await
}

/// A user's connections, and who has none.
async fn user(gateway: &Gateway, browser: &Browser) -> Result<()> {
    let (mut client, _) = gateway.connect(USER, 3, Encoding::Json)?;
    let address = client.socket().get_ref().local_addr()?.to_string();
    for (user, note) in [
        (USER.to_string(), "1 connection."),
        ("12".to_owned(), "has no connection"),
        ("x".to_owned(), "\"user\" is \"x\""),
    ] {
        browser.fill("#user", &user).await?;
        browser.click("#user-form button").await?;
        browser.shows("#user-note", note).await?;
        let rows = browser.text("#connections").await?;
        ensure!(rows.contains(&address) == note.starts_with('1'), "{user}: {rows:?}");
    }
    Ok(())
}
