//! Names: kinds, subjects, machine ids, streams.

use crate::error::StatementError;
use crate::limits::{KIND_BYTES_MAX, MACHINE_ID_BYTES_MAX, SUBJECT_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = StatementError;
            fn try_from(text: String) -> Result<Self, StatementError> {
                Self::check(&text)?;
                Ok(Self(text.into()))
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.as_ref().to_owned()
            }
        }
        impl std::str::FromStr for $name {
            type Err = StatementError;
            fn from_str(text: &str) -> Result<Self, StatementError> {
                Self::new(text)
            }
        }
    };
}

/// What a statement says, as `family.kind`: 1 to 64 characters of `a-z`, `0-9`, `.` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(Box<str>);
text!(Kind);

impl Kind {
    // For a text that was checked before.
    pub(crate) fn of_checked(text: &str) -> Self {
        Self(text.into())
    }

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`StatementError::Kind`].
    ///
    /// ```
    /// use ledger_core::Kind;
    /// let kind = Kind::new("x.tool.call").unwrap();
    /// assert!(kind.is_custom() && kind.family() == "x");
    /// assert_eq!(Kind::new("Tool Call").unwrap_err().code(), "statement.kind");
    /// ```
    pub fn new(text: &str) -> Result<Self, StatementError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    pub(crate) fn check(text: &str) -> Result<(), StatementError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if text.is_empty() || text.len() > KIND_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(StatementError::Kind(text.chars().take(80).collect()));
        }
        Ok(())
    }

    /// The part before the first dot.
    pub fn family(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }

    /// Whether it is one of an embedder's own kinds (`x.`); all other names are reserved.
    pub fn is_custom(&self) -> bool {
        self.0.starts_with("x.") && self.0.len() > 2
    }
}

/// What a statement is about, as `job/<id>`, `vault/<path digest>`, or an embedder's own text: at most 256 bytes, no
/// control characters, possibly empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Box<str>);
text!(Subject);

impl Subject {
    // For a text that was checked before.
    pub(crate) fn of_checked(text: &str) -> Self {
        Self(text.into())
    }

    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`StatementError::Subject`].
    ///
    /// ```
    /// use ledger_core::Subject;
    /// assert_eq!(Subject::new("conversation/42").unwrap().as_str(), "conversation/42");
    /// assert_eq!(Subject::new("two\nlines").unwrap_err().code(), "statement.subject");
    /// ```
    pub fn new(text: &str) -> Result<Self, StatementError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    pub(crate) fn check(text: &str) -> Result<(), StatementError> {
        // Most subjects are ASCII, where looking at bytes is enough.
        let acts = |b: u8| !(0x20..0x7f).contains(&b);
        let doubtful = text.bytes().any(acts);
        if text.len() > SUBJECT_BYTES_MAX || (doubtful && text.chars().any(char::is_control)) {
            return Err(StatementError::Subject { bytes: text.len() });
        }
        Ok(())
    }
}

/// The stable, boring name of a machine: 1 to 64 characters of `a-z`, `0-9` and `-`. Never renamed. A clone copies no text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(Arc<str>);
text!(MachineId);

impl MachineId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`StatementError::MachineId`].
    ///
    /// ```
    /// use ledger_core::MachineId;
    /// assert!(MachineId::new("mac-mini").is_ok() && MachineId::new("Mac mini").is_err());
    /// ```
    pub fn new(text: &str) -> Result<Self, StatementError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    fn check(text: &str) -> Result<(), StatementError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MACHINE_ID_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(StatementError::MachineId(text.chars().take(80).collect()));
        }
        Ok(())
    }
}

/// Which log of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// What the machine did with jobs.
    Work,
    /// All else that is to be kept.
    Facts,
    /// Heartbeats and progress; may be pruned.
    Pulse,
    /// Central's decisions.
    Order,
}

impl Stream {
    /// All streams.
    pub const ALL: [Stream; 4] = [Stream::Work, Stream::Facts, Stream::Pulse, Stream::Order];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Facts => "facts",
            Self::Pulse => "pulse",
            Self::Order => "order",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_their_alphabet_are_refused() {
        assert!(Kind::new("x.tool-call.v2").is_ok());
        for bad in ["", "X.a", "a b", "é", &"a".repeat(65)] {
            assert!(Kind::new(bad).is_err(), "{bad}");
        }
        assert!(Subject::new("line\nbreak").is_err());
        assert!(MachineId::new("mac-studio-central").is_ok() && MachineId::new("Mac").is_err());
    }
}
