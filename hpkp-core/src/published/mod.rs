//! Published pins: which pins clients may still hold, wherever they got them, and which keys the
//! servers present.
//!
//! Records are events, one a line, in files to which this software only appends. The modules are:
//!
//! - [`event`]: the content of events; [`line`](mod@line): their form; [`file`](mod@file): whole files;
//! - [`state`]: the state that follows from all events; [`clock`]: when they happened; [`timeline`]: what was presented
//!   while pins were published;
//! - [`accepted`](crate::accepted): the events that a server appends; [`compact`]: the events that may be removed;
//! - [`index`]: where in other machines' files the records of a host are; [`tlsa`]: the records of DANE.
//!
//! `docs/reference/records.md` describes the format for operators and other programs. Later versions read what earlier
//! versions have written.

pub mod binding;
pub mod client;
pub mod clock;
pub mod compact;
pub mod event;
pub mod file;
pub mod heard;
pub mod id;
pub mod index;
mod json;
pub mod keys;
pub mod line;
pub mod name;
pub mod state;
pub mod summary;
pub mod timeline;
pub mod tlsa;

pub use client::{Client, Exempt};
pub use event::{
    Again, Body, CertificateIdentity, Compromised, Configuration, Ended, Event, Gone, Identity,
    Lifetime, Matching, Origin, Presented, Presents, Published, Seen, Sight, Waived, Why, Withheld,
};
pub use id::{EventId, Fingerprint};
pub use keys::{KeyGraph, KeyNode, PinValidation, Scope, Slot};
pub use name::{ANY_HOST, ANY_LABEL, HostName, WriterName};
pub use state::State;
pub use tlsa::{Rrset, Tlsa};

/// The name of `value` in `names`, which must contain all values of the type.
#[must_use]
pub fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| name)
}

/// The value with the name `text` in `names`.
#[must_use]
pub fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}
