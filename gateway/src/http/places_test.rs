//! Who gives way, one step after the other.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;

/// All places taken by connections that are open until they have to go.
struct Full {
    places: Places,
    open: Vec<(JoinHandle<()>, Serving)>,
}

impl Full {
    async fn new() -> Self {
        let mut full = Self { places: Places::new(), open: Vec::new() };
        for _ in 0..CONNECTIONS_MAX {
            let (place, gave_way) = full.places.take().await;
            assert!(!gave_way, "there was a free one");
            full.opens(place);
        }
        full
    }

    fn opens(&mut self, place: Option<OwnedSemaphorePermit>) {
        let serving = self.places.serving();
        assert!(place.is_some());
        let task = tokio::spawn(async move {
            let _place = place;
            std::future::pending::<()>().await;
        });
        self.places.given(task.abort_handle(), serving.clone());
        self.open.push((task, serving));
    }

    /// One more comes; who had to go for it.
    async fn goes(&mut self) -> usize {
        let open: Vec<usize> = (0..self.open.len()).filter(|one| !self.open[*one].0.is_finished()).collect();
        let (place, gave_way) = self.places.take().await;
        assert!(gave_way);
        self.opens(place);
        let gone: Vec<usize> = open.into_iter().filter(|one| self.open[*one].0.is_finished()).collect();
        assert_eq!(gone.len(), 1, "one for one");
        gone[0]
    }

    fn answered(&self, connection: usize) {
        let serving = &self.open[connection].1;
        drop(serving.request());
        serving.is_sent();
    }
}

#[tokio::test]
async fn the_one_without_a_request_for_longest_gives_way() {
    let mut full = Full::new().await;
    // The first was accepted before all others, and has asked something since.
    full.answered(0);
    assert_eq!(full.goes().await, 1);
    let request = full.open[2].1.request();
    assert_eq!(full.goes().await, 3, "one with a request does not");
    drop(request);
    full.open[2].1.is_sent();
    for next in 4..CONNECTIONS_MAX {
        assert_eq!(full.goes().await, next);
    }
    assert_eq!(full.goes().await, 0, "in the order in which they were last answered");
}

#[tokio::test]
async fn answers_that_nobody_takes_give_way_when_there_is_no_other_and_the_slowest_first() {
    let mut full = Full::new().await;
    for (_, serving) in &full.open {
        drop(serving.request());
    }
    full.open[0].1.goes_on();
    full.answered(7);
    assert_eq!(full.goes().await, 7, "all of its answer was sent");
    assert_eq!(full.goes().await, CONNECTIONS_MAX, "the newest has no answer under way");
    full.answered(CONNECTIONS_MAX + 1);
    drop(full.open[CONNECTIONS_MAX + 1].1.request());
    assert_eq!(full.goes().await, 1, "the first has taken some of its answer");
}

#[tokio::test]
async fn while_all_are_being_answered_the_next_waits_for_the_first_of_them() {
    let mut full = Full::new().await;
    let mut requests: Vec<Served> = full.open.iter().map(|(_, serving)| serving.request()).collect();
    let Full { places, open } = &mut full;
    {
        let mut take = pin!(places.take());
        assert!(is_pending(take.as_mut()).await && is_pending(take.as_mut()).await);
        drop(requests.swap_remove(9));
        let taken = tokio::time::timeout(Duration::from_mins(1), take).await;
        assert!(matches!(taken, Ok((Some(_), true))), "it is answered, so it gives way");
    }
    assert!(open[9].0.is_finished() && open.iter().filter(|(task, _)| task.is_finished()).count() == 1);
}

async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}
