//! Two people with a browser each, against the real gateway: they sign up, write to each other, see the marks, and lose nothing when
//! the gateway is killed. With `ROOST_SCREENSHOTS=1` the pictures of docs/screenshots/ are taken anew.

mod browser;

use std::time::Duration;

use anyhow::Result;
use browser::{Browser, Driver, Look};
use roost_client::harness::Gateway;

const ALICE: &str = "4917000001";
const BOB: &str = "4930000002";
const NOBODY: &str = "4999999999";
const PASSWORD: &str = "correct horse";

/// Long enough for any step on a loaded machine; a step that hangs fails after it.
const DEADLINE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn two_people_chat_and_a_killed_gateway_loses_nothing() -> Result<()> {
    let mut gateway = Gateway::start(&[])?;
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

async fn scenario(gateway: &mut Gateway, alice: &Browser, bob: &Browser) -> Result<()> {
    accounts(alice, bob).await?;
    marks(alice, bob).await?;
    let mut said = vec![
        format!("out read {}", "Good morning! Did the birds wake you, too?"),
        format!("in {}", "They did. Coffee at nine?"),
        format!("out read {}", "Perfect. <b>I bring</b> the croissants 🥐"),
    ];
    alice.sees(&said).await?;
    pictures(alice, bob).await?;
    killed_while_idle(gateway, alice, bob, &mut said).await?;
    killed_while_sending(gateway, alice, bob, &mut said).await?;
    reloaded(alice, bob, &said).await?;
    replaced_and_signed_out(alice).await
}

/// Sign-up, and what goes wrong with it.
async fn accounts(alice: &Browser, bob: &Browser) -> Result<()> {
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
    alice.write("Anybody there?").await?;
    alice.shows(".failure", "There is no account with this number.").await
}

/// Sent while the other is away, delivered when he comes back, read when he looks.
async fn marks(alice: &Browser, bob: &Browser) -> Result<()> {
    let page = bob.leave().await?;
    alice.open_conversation(BOB).await?;
    alice.write("Good morning! Did the birds wake you, too?").await?;
    alice.sees(&["out sent Good morning! Did the birds wake you, too?"]).await?;
    bob.goto(&page).await?;
    bob.shows(&format!("[data-peer='{ALICE}'] .badge"), "1").await?;
    alice.sees(&["out delivered Good morning! Did the birds wake you, too?"]).await?;
    bob.picture("phone-list").await?;
    bob.click(&format!("[data-peer='{ALICE}']")).await?;
    bob.sees(&["in Good morning! Did the birds wake you, too?"]).await?;
    alice.sees(&["out read Good morning! Did the birds wake you, too?"]).await?;

    bob.write("They did. Coffee at nine?").await?;
    bob.sees(&["in Good morning! Did the birds wake you, too?", "out read They did. Coffee at nine?"])
        .await?;
    alice.write("Perfect. <b>I bring</b> the croissants 🥐").await
}

async fn pictures(alice: &Browser, bob: &Browser) -> Result<()> {
    alice.picture("desktop").await?;
    bob.picture("phone").await
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
    tokio::try_join!(alice.write_burst("from Alice", BURST), bob.write_burst("from Bob", BURST))?;
    alice.has_answers_beyond(said.len()).await?;
    gateway.kill()?;
    alice.shows("#status", "Reconnecting").await?;
    gateway.restart()?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("out read from Alice {n}")).collect();
    alice.sees_among("out", said, &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("in from Bob {n}")).collect();
    alice.sees_among("in", said, &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("out read from Bob {n}")).collect();
    bob.sees_among("out", &mirror(said), &expected).await?;
    let expected: Vec<String> = (0..BURST).map(|n| format!("in from Alice {n}")).collect();
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

/// A second window of the same browser takes over and says so in the first; signing out ends at the door.
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
    alice.shows("#status", "Connected").await
}
