//! Two people with a browser each, against the real gateway: they sign up, write to each other, see the marks, and lose nothing when
//! the gateway is killed. With `ROOST_SCREENSHOTS=1` the pictures of docs/screenshots/ are taken anew.

mod browser;

use std::time::Duration;

use anyhow::{Result, ensure};
use browser::{Browser, Driver, Look};
use roost_client::harness::Gateway;
use roost_proto::codec::Encoding;

const ALICE: &str = "4917000001";
const BOB: &str = "4930000002";
const NOBODY: &str = "4999999999";
/// Text that a careless page would take for markup, and characters outside the basic plane.
const MARKUP: &str = "<img src=x onerror=alert(1)> 🐦";
const PASSWORD: &str = "correct horse";

/// Long enough for any step on a loaded machine; a step that hangs fails after it.
const DEADLINE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn two_people_chat_and_a_killed_gateway_loses_nothing() -> Result<()> {
    // A page that sent no heartbeats would be cut off during the test.
    let mut gateway = Gateway::start(&["--heartbeat-s", "3"])?;
    let driver = Driver::start()?;
    let alice = driver.open(Look::DesktopLight).await?;
    let bob = driver.open(Look::PhoneDark).await?;
    let address = format!("http://{}/", gateway.http);
    let ended = tokio::try_join!(alice.goto(&address), bob.goto(&address)).map(drop);
    let ended = match ended {
        Ok(()) => scenario(&mut gateway, &alice, &bob).await,
        failed => failed,
    };
    for (name, browser) in [("alice", alice), ("bob", bob)] {
        if ended.is_err() {
            eprintln!("{name}: {}", browser.text("body").await.unwrap_or_default());
        }
        browser.close().await?;
    }
    ended
}

/// Which account is signed in is a matter of the window, even where both are of one browser.
#[tokio::test]
async fn two_windows_of_one_browser_have_an_account_each() -> Result<()> {
    let gateway = Gateway::start(&[])?;
    let driver = Driver::start()?;
    let browser = driver.open(Look::DesktopLight).await?;
    browser.goto(&format!("http://{}/", gateway.http)).await?;
    let ended = one_browser(&browser).await;
    if ended.is_err() {
        eprintln!("{}", browser.text("body").await.unwrap_or_default());
    }
    browser.close().await?;
    ended
}

/// Chromium's own WebSocket against an echo, without the page.
#[tokio::test]
async fn a_browsers_websocket_is_echoed_closes_and_is_closed() -> Result<()> {
    let gateway = Gateway::start(&["--backend", "echo", "--max-message-bytes", "1048576"])?;
    let driver = Driver::start()?;
    let browser = driver.open(Look::DesktopLight).await?;
    let page = format!("http://{}/healthz", gateway.http);
    let seen = browser.echo(&page, &format!("ws://{}/any", gateway.ws)).await;
    browser.close().await?;
    let expected = serde_json::json!({
        "protocol": "first.example",
        "extensions": "",
        "text": ["text", "", "ünïcödé 🐦"],
        "binary": [0, 1, 255],
        "large": true,
        "closed": [4321, true],
        "closedByGateway": [1009, true],
    });
    assert_eq!(seen?, expected);
    Ok(())
}

async fn one_browser(browser: &Browser) -> Result<()> {
    browser.fill_door("tab-sign-up", ALICE, PASSWORD).await?;
    browser.shows("#status", "Connected").await?;
    // The second window begins as Alice, and becomes Bob; the first one is Alice again without a hand on it.
    let alice = browser.second_window().await?;
    let bob = browser.window().await?;
    browser.shows("#own-number", ALICE).await?;
    browser.shows("#status", "Connected").await?;
    browser.click("#sign-out").await?;
    browser.shows("#door-submit", "Sign in").await?;
    browser.fill_door("tab-sign-up", BOB, PASSWORD).await?;
    connected_as(browser, BOB).await?;
    browser.switch_to(&alice).await?;
    connected_as(browser, ALICE).await?;

    browser.open_conversation(BOB).await?;
    browser.write("Are we in one browser?").await?;
    browser.switch_to(&bob).await?;
    browser.open_conversation(ALICE).await?;
    browser.sees(&["in Are we in one browser?"]).await?;
    browser.write("In two windows of it").await?;
    browser.switch_to(&alice).await?;
    browser.sees_among("in", &[], &["in In two windows of it".to_owned()]).await?;

    // Each stays who it is when it is loaded anew, and when the other one signs out.
    for (window, number) in [(&alice, ALICE), (&bob, BOB)] {
        browser.switch_to(window).await?;
        browser.reload().await?;
        connected_as(browser, number).await?;
    }
    browser.click("#sign-out").await?;
    browser.shows("#door-submit", "Sign in").await?;
    browser.reload().await?;
    browser.shows("#door-submit", "Sign in").await?;
    browser.switch_to(&alice).await?;
    browser.reload().await?;
    connected_as(browser, ALICE).await
}

async fn connected_as(browser: &Browser, number: &str) -> Result<()> {
    browser.shows("#own-number", number).await?;
    browser.shows("#status", "Connected").await
}

async fn scenario(gateway: &mut Gateway, alice: &Browser, bob: &Browser) -> Result<()> {
    accounts(alice, bob).await?;
    programs_write(gateway, alice).await?;
    let mut said = marks(alice, bob).await?;
    alice.picture("desktop").await?;
    bob.picture("phone").await?;
    alice.beats(2).await?;
    answer_lost(alice, bob, &mut said).await?;
    killed_while_idle(gateway, alice, bob, &mut said).await?;
    killed_while_sending(gateway, alice, bob, &mut said).await?;
    reloaded(alice, bob, &said).await?;
    replaced_and_signed_out(alice).await
}

/// Sign-up, and what goes wrong with it.
async fn accounts(alice: &Browser, bob: &Browser) -> Result<()> {
    alice.picture("sign-in").await?;
    alice.fill_door("tab-sign-in", ALICE, PASSWORD).await?;
    alice.shows("#door-error", "The number or the password is wrong.").await?;
    alice.fill_door("tab-sign-up", "my number", PASSWORD).await?;
    alice.shows("#door-error", "Enter your number in digits").await?;
    alice.fill_door("tab-sign-up", ALICE, "short").await?;
    alice.shows("#door-error", "at least 8 characters").await?;
    alice.fill_door("tab-sign-up", "+49 1700-0001", PASSWORD).await?;
    alice.shows("#status", "Connected").await?;
    alice.shows("#own-number", ALICE).await?;

    bob.fill_door("tab-sign-up", ALICE, "another password").await?;
    bob.shows("#door-error", "has an account already").await?;
    bob.fill_door("tab-sign-up", BOB, PASSWORD).await?;
    bob.shows("#status", "Connected").await?;

    alice.open_conversation(NOBODY).await?;
    alice.write("Is this still your number?").await?;
    alice.shows(".failure", "There is no account with this number.").await
}

/// Whoever speaks the protocol can write to a page; what is not looked at counts as unread.
async fn programs_write(gateway: &Gateway, alice: &Browser) -> Result<()> {
    let texts: [(u64, &[&str]); 2] = [
        (33_140_000_003, &["The nest box camera is online again", "Two eggs since this morning"]),
        (4_420_000_004, &["Shall we walk along the river on Sunday?"]),
    ];
    for (from, texts) in texts {
        let (status, body) =
            gateway.request("POST", "/v1/users", &format!(r#"{{"user":{from},"password":"{PASSWORD}"}}"#))?;
        ensure!(status == 201, "{status}: {body}");
        let (mut program, _) = gateway.connect(from, 1, Encoding::Proto)?;
        for (n, text) in texts.iter().enumerate() {
            program.say(ALICE.parse()?, &[n as u8], text.as_bytes())?;
        }
        alice.shows(&format!("[data-peer='{from}'] .badge"), &texts.len().to_string()).await?;
    }
    Ok(())
}

/// Sent while the other is away, delivered when he comes back, read when he looks. Returns what Alice sees in the end.
async fn marks(alice: &Browser, bob: &Browser) -> Result<Vec<String>> {
    let first = "Up already? The swifts are back!";
    let page = bob.leave().await?;
    alice.open_conversation(BOB).await?;
    alice.write(first).await?;
    alice.sees(&[format!("out sent {first}")]).await?;
    bob.goto(&page).await?;
    bob.shows(&format!("[data-peer='{ALICE}'] .badge"), "1").await?;
    alice.sees(&[format!("out delivered {first}")]).await?;
    bob.picture("phone-list").await?;
    bob.click(&format!("[data-peer='{ALICE}']")).await?;
    bob.sees(&[format!("in {first}")]).await?;
    alice.sees(&[format!("out read {first}")]).await?;

    let mut said = vec![format!("out read {first}")];
    for (writer, text) in [
        (bob, "I heard them! A dozen at least, right above the roof."),
        (bob, "Coffee at nine?"),
        (alice, "Yes. I bring croissants."),
        (alice, "And the binoculars, of course"),
        (bob, "Perfect"),
    ] {
        writer.write(text).await?;
        said.push(if std::ptr::eq(writer, alice) {
            format!("out read {text}")
        } else {
            format!("in {text}")
        });
        // One after the other, so that both sides have them in one order.
        alice.sees(&said).await?;
        bob.sees(&mirror(&said)).await?;
    }
    Ok(said)
}

/// A message whose answer was lost is sent again, and is there once.
async fn answer_lost(alice: &Browser, bob: &Browser, said: &mut Vec<String>) -> Result<()> {
    alice.lose_next_answer().await?;
    alice.write("The answer to this gets lost").await?;
    said.push("out read The answer to this gets lost".to_owned());
    alice.sees(said).await?;
    // What comes later shows that nothing else is on its way.
    bob.write("Got it").await?;
    said.push("in Got it".to_owned());
    alice.sees(said).await?;
    bob.sees(&mirror(said)).await
}

/// Both write while the gateway is down; all of it arrives, once and in order.
async fn killed_while_idle(
    gateway: &mut Gateway,
    alice: &Browser,
    bob: &Browser,
    said: &mut Vec<String>,
) -> Result<()> {
    gateway.kill()?;
    alice.shows("#status", "Reconnecting").await?;
    bob.shows("#banner", "Reconnecting").await?;
    for text in ["Are you on your way?", "The table by the window"] {
        alice.write(text).await?;
        said.push(format!("out queued {text}"));
    }
    alice.sees(said).await?;
    alice.picture("reconnecting").await?;
    gateway.restart()?;
    alice.shows("#status", "Connected").await?;
    for line in said.iter_mut() {
        *line = line.replace("out queued", "out read");
    }
    alice.sees(said).await?;
    bob.write("Two minutes!").await?;
    said.push("in Two minutes!".to_owned());
    alice.sees(said).await
}

/// Killed with messages on their way in both directions.
async fn killed_while_sending(
    gateway: &mut Gateway,
    alice: &Browser,
    bob: &Browser,
    said: &mut Vec<String>,
) -> Result<()> {
    const BURST: usize = 30;
    let from_alice = format!("{MARKUP} from Alice");
    tokio::try_join!(alice.write_burst(&from_alice, BURST), bob.write_burst("from Bob", BURST))?;
    alice.has_answers_beyond(said.len()).await?;
    gateway.kill()?;
    alice.shows("#status", "Reconnecting").await?;
    gateway.restart()?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("out read {MARKUP} from Alice {n}")).collect();
    alice.sees_among("out", said, &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("in from Bob {n}")).collect();
    alice.sees_among("in", said, &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("out read from Bob {n}")).collect();
    bob.sees_among("out", &mirror(said), &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("in {MARKUP} from Alice {n}")).collect();
    bob.sees_among("in", &mirror(said), &expected).await?;
    *said = alice.messages().await?;
    Ok(())
}

/// What the other one sees of a conversation.
fn mirror(said: &[String]) -> Vec<String> {
    let other = |line: &String| match line.strip_prefix("in ") {
        Some(text) => format!("out read {text}"),
        None => line.replacen("out read ", "in ", 1),
    };
    said.iter().map(other).collect()
}

/// A page that comes back is signed in and has the same messages, none twice.
async fn reloaded(alice: &Browser, bob: &Browser, said: &[String]) -> Result<()> {
    let (page, bobs) = (alice.leave().await?, bob.messages().await?);
    alice.goto(&page).await?;
    let page = bob.leave().await?;
    bob.goto(&page).await?;
    alice.shows("#status", "Connected").await?;
    bob.shows("#status", "Connected").await?;
    bob.write("Still here").await?;
    let with_it = |said: &[String], line: &str| [said, &[line.to_owned()]].concat();
    bob.sees(&with_it(&bobs, "out read Still here")).await?;
    alice.sees(&with_it(said, "in Still here")).await
}

/// A second window of the same browser takes over and says so in the first; signing out, and a token that is not taken any more, end
/// at the door.
async fn replaced_and_signed_out(alice: &Browser) -> Result<()> {
    let first = alice.second_window().await?;
    alice.shows("#status", "Connected").await?;
    alice.back_to(first).await?;
    alice.shows("#banner", "open in another window").await?;
    alice.click("#banner-action").await?;
    alice.shows("#status", "Connected").await?;
    alice.click("#sign-out").await?;
    alice.shows("#door-submit", "Sign in").await?;
    alice.fill_door("tab-sign-in", ALICE, PASSWORD).await?;
    alice.shows("#status", "Connected").await?;
    alice.spoil_token().await?;
    alice.shows("#banner-action", "Sign in again").await?;
    alice.click("#banner-action").await?;
    alice.shows("#door-submit", "Sign in").await
}
