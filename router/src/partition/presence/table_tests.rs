//! The table of followers.

use super::*;

fn follower(user: UserId, generation: u32) -> Follower {
    Follower { user, device: 1, session: SessionId { gateway: 0, shard: 0, slot: 1, generation } }
}

#[test]
fn a_user_who_is_followed_by_many_keeps_the_newest() {
    let mut presence = Presence::default();
    let many = limits::FOLLOWERS_OF_USER_MAX as u64;
    for user in 1..=many + 3 {
        assert!(presence.follow(7, follower(user, 1), false));
    }
    assert_eq!(presence.followers(), many as usize);
    let kept: Vec<_> = presence.followed[&7].followers.iter().map(|follower| follower.user).collect();
    assert_eq!(kept, (4..=many + 3).collect::<Vec<_>>());
}

#[test]
fn the_table_of_followers_is_bounded() {
    let mut presence = Presence::default();
    for user in 0..limits::FOLLOWERS_MAX as u64 {
        assert!(presence.follow(user, follower(1, 1), false));
    }
    assert!(!presence.follow(u64::MAX, follower(1, 1), false));
    assert!(!presence.follow(0, follower(2, 1), false));
    assert!(presence.follow(0, follower(1, 2), false), "who follows already needs no room");
    assert_eq!(presence.followed.len(), limits::FOLLOWERS_MAX);
    presence.unfollow(1, follower(1, 1));
    assert!(presence.follow(u64::MAX, follower(1, 1), false));
    for user in (0..limits::FOLLOWERS_MAX as u64).chain([u64::MAX]) {
        presence.unfollow(user, follower(1, 1));
        presence.unfollow(user, follower(1, 2));
    }
    assert_eq!((presence.followers(), presence.followed.len()), (0, 0));
    assert!(presence.followed.capacity() < limits::FOLLOWERS_MAX / 8, "the memory is given back");
}

#[test]
fn an_end_that_comes_late_does_not_end_its_successor() {
    let mut presence = Presence::default();
    presence.follow(7, follower(1, 1), false);
    presence.follow(7, follower(1, 2), false);
    presence.unfollow(7, follower(1, 1));
    assert_eq!(presence.followed[&7].followers, [follower(1, 2)]);
}
