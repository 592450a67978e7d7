//! What the service manager is told, where there is one that listens (`sd_notify(3)`).

use sd_notify::NotifyState;

/// Says that the node is set up.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// Says that the agent ends; the datapath stays.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

fn tell(state: &NotifyState) {
    // The node is kept all the same.
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        log::debug!("tell the service manager {state}: {error}");
    }
}
