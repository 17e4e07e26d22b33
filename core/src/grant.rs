//! Authority as a pure check: may a key of this role say this kind in this stream?
//!
//! Who holds which role, and from which position of the order on, is folded from the order (`ledger-projections`).

use crate::kind::{Kind, Stream};
use crate::kinds::{self, Author, Detail, Erased, InadmissibleReason, Role};

/// Whether an author with a role may say a kind in a stream. `root` tells whether the author is the fleet's root key,
/// `own_log` whether the author is the machine whose log it is.
///
/// # Errors
/// [`InadmissibleReason`]: the record is kept and inert.
///
/// ```
/// use ledger_core::{Kind, Stream, grant, kinds::{InadmissibleReason, Role}};
/// let kind = Kind::new("job.succeeded").unwrap();
/// let verdict = grant::permits(Some(Role::Node), false, true, &kind, Stream::Work);
/// assert_eq!(verdict, Err(InadmissibleReason::WrongStream));
/// ```
pub fn permits(
    role: Option<Role>,
    root: bool,
    own_log: bool,
    kind: &Kind,
    stream: Stream,
) -> Result<(), InadmissibleReason> {
    if kind.is_custom() {
        return match (role, stream) {
            (_, Stream::Work) => Err(InadmissibleReason::WrongStream),
            (None, _) if root || own_log => Ok(()),
            (None, _) => Err(InadmissibleReason::UnknownAuthor),
            (Some(Role::Central | Role::Node | Role::Operator | Role::Agent), _) => Ok(()),
            (Some(Role::Relay | Role::Client | Role::Reader), _) => Err(InadmissibleReason::NotPermitted),
        };
    }
    let Some(info) = kinds::info(kind.as_str()) else {
        // A newer program's kind, said by the machine itself, is kept; nobody else may say what this program cannot judge.
        return match (own_log, role) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(InadmissibleReason::NotPermitted),
            (false, None) => Err(InadmissibleReason::UnknownAuthor),
        };
    };
    if !info.streams.contains(&stream) {
        return Err(InadmissibleReason::WrongStream);
    }
    let permitted = match info.author {
        Author::Machine => own_log,
        Author::Central => own_log && role == Some(Role::Central),
        Author::Root => root,
        Author::Operator => root || matches!(role, Some(Role::Central | Role::Operator)),
        Author::Actor => {
            // A machine may always say that it destroyed something of its own, whatever the fleet thinks of it.
            let own_erasure = own_log && stream == Stream::Facts && info.kind == Erased::KIND;
            root || own_erasure
                || matches!(
                    role,
                    Some(
                        Role::Central
                            | Role::Node
                            | Role::Operator
                            | Role::Relay
                            | Role::Agent
                            | Role::Client
                    )
                )
        }
    };
    match (permitted, role, root || own_log) {
        (true, _, _) => Ok(()),
        (false, None, false) => Err(InadmissibleReason::UnknownAuthor),
        (false, _, _) => Err(InadmissibleReason::NotPermitted),
    }
}

/// Whether a role may read receipts of the whole fleet.
pub fn may_read(role: Role) -> bool {
    matches!(role, Role::Central | Role::Node | Role::Operator | Role::Reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_says_nothing_and_a_node_never_decides() {
        let custom = Kind::new("x.note").expect("valid");
        assert_eq!(
            permits(Some(Role::Reader), false, false, &custom, Stream::Facts),
            Err(InadmissibleReason::NotPermitted)
        );
        let decided = Kind::new("job.cancelled").expect("valid");
        assert_eq!(
            permits(Some(Role::Node), false, true, &decided, Stream::Order),
            Err(InadmissibleReason::NotPermitted)
        );
        assert_eq!(
            permits(None, false, false, &decided, Stream::Order),
            Err(InadmissibleReason::UnknownAuthor)
        );
        let granted = Kind::new("key.granted").expect("valid");
        assert!(permits(Some(Role::Operator), false, false, &granted, Stream::Order).is_err());
        assert!(permits(None, true, false, &granted, Stream::Order).is_ok());
    }

    #[test]
    fn an_actor_says_erased_in_order_and_facts_and_a_machine_in_its_own_facts() {
        let erased = Kind::new("erased").expect("valid");
        for stream in [Stream::Order, Stream::Facts] {
            assert!(permits(Some(Role::Agent), false, false, &erased, stream).is_ok());
            assert!(permits(None, true, false, &erased, stream).is_ok());
            assert_eq!(
                permits(Some(Role::Reader), false, false, &erased, stream),
                Err(InadmissibleReason::NotPermitted)
            );
        }
        assert!(permits(None, false, true, &erased, Stream::Facts).is_ok());
        assert_eq!(
            permits(None, false, false, &erased, Stream::Facts),
            Err(InadmissibleReason::UnknownAuthor)
        );
        assert!(permits(None, false, true, &erased, Stream::Order).is_err());
        for stream in [Stream::Work, Stream::Pulse] {
            assert_eq!(
                permits(Some(Role::Operator), false, true, &erased, stream),
                Err(InadmissibleReason::WrongStream)
            );
        }
    }
}
