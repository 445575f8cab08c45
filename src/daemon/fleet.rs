//! A node's part in a fleet: it hears the fleet's requests only while it has room.
//!
//! A shared subscription deals requests out blindly, to members that are busy as well: so a busy one leaves the share and
//! comes back when it is free. What reached it before it left waits in its own queue.

use crate::mqtt::{Client, Topics};

/// See the module.
pub(super) struct Share {
    client: Option<Client>,
    filter: String,
    joined: bool,
}

impl Share {
    /// In no share yet; never in one where `group` is empty or there is no broker.
    pub(super) fn new(client: Option<Client>, topics: &Topics, group: &str) -> Self {
        let client = client.filter(|_| !group.is_empty());
        Self { client, filter: topics.fleet_share(group), joined: false }
    }

    /// Joins or leaves so that it is a member while it has room.
    pub(super) fn follow(&mut self, has_room: bool) {
        let Some(client) = &self.client else { return };
        if has_room == self.joined {
            return;
        }
        self.joined = has_room;
        if has_room {
            client.subscribe(self.filter.as_str());
        } else {
            client.unsubscribe(self.filter.as_str());
        }
        tracing::debug!(filter = self.filter, joined = self.joined, "the fleet's share");
    }
}
