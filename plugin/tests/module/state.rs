//! The state mount as the module uses it.

use crate::{
    host::{Guest, STATE_MOUNT, StateFolder},
    support::{FILE, call, gate, guest_with_state, policy, snapshot},
};

#[test]
fn the_state_folder_is_not_touched_before_a_signature_was_verified() {
    let folder = StateFolder::default();
    let mut guest = guest_with_state(&folder);
    for _ in 0..2 {
        let answer = guest.request(call("web"));
        assert!(answer.forwarded);
        assert!(!answer.calls.iter().any(|made| made.contains("state")), "{:?}", answer.calls);
    }
    assert!(folder.lock().files.is_empty());
}

#[test]
fn a_state_folder_that_is_not_mounted_or_cannot_be_used_denies_nobody() {
    let mut config = gate();
    config["state"] = STATE_MOUNT.into();
    let mut guest = Guest::start(&config);
    guest.publish(FILE, snapshot(&policy(), 1));
    assert!(guest.request(call("web")).forwarded);
    let folder = StateFolder::default();
    folder.lock().read_only = true;
    assert!(guest_with_state(&folder).request(call("web")).forwarded);
}
