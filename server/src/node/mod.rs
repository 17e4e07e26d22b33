//! What a machine does that joined: dial the gateway, push what it wrote, mirror the order, claim work, beat.

mod beats;
mod claiming;
mod collecting;
mod earlier;
mod follow;
mod link;
mod mirror;
pub(crate) mod outbox;
mod pull;
mod push;
mod restore;

pub(crate) use beats::beat_from_own_thread;
pub(crate) use link::{Link, link_forever};
pub(crate) use restore::{close, may_be_behind, open_whole, reopen, succeed};
