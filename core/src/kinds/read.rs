//! Details read by hand from their canonical bytes: what [`crate::canonical`] does for every type, without a second encoding to
//! compare with. A fold reads a detail for each receipt, and the kinds of the queue are nearly all of them.
//!
//! Contract: [`whole`] takes exactly the bytes that [`crate::canonical::decode`] takes and gives the same value. `None` means only
//! that the bytes are not canonical: the caller asks there for the reason. A property holds every kind here to it, on values, on
//! random bytes and on mutated ones. Which kinds are read so, the catalogue says; a struct here names all its fields in
//! their order.

use super::{
    Class, Costs, ErrorClass, Evidence, Fence, InputRef, JobAccepted, JobAttemptFailed, JobCheckpointed,
    JobClaimed, JobId, JobLeaseExpired, JobReady, JobRequeued, JobResumed, JobSpec, JobStarted, JobSucceeded,
    LogPinned, Outputs, PinnedRange, ReadyReason, RequestReceived, RequeueReason, RunFailed, RunStarted,
    RunSucceeded, SuccessVerdict,
};
use crate::digest::{Commitment, ContentDigest, LogId, SealDigest, TreeRoot};
use crate::id::ReceiptId;
use crate::key::PublicKey;
use crate::kind::MachineId;
use crate::wire::{Bytes, unzigzag};

/// What can be read from its canonical bytes.
pub(super) trait Read: Sized {
    fn read(from: &mut Bytes<'_>) -> Option<Self>;

    /// Any value, for the property.
    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self;
}

/// A value from exactly its canonical bytes.
pub(super) fn whole<T: Read>(bytes: &[u8]) -> Option<T> {
    let mut from = Bytes(bytes);
    let value = T::read(&mut from)?;
    from.0.is_empty().then_some(value)
}

macro_rules! numbers {
    ($($unsigned:ident, $signed:ident, $bits:literal;)*) => {$(
        impl Read for $unsigned {
            fn read(from: &mut Bytes<'_>) -> Option<Self> {
                from.varint($bits)?.try_into().ok()
            }

            #[cfg(test)]
            fn any(dice: &mut tests::Dice<'_>) -> Self {
                dice.number($bits).try_into().expect("so many bits")
            }
        }

        impl Read for $signed {
            fn read(from: &mut Bytes<'_>) -> Option<Self> {
                unzigzag(from.varint($bits)?).try_into().ok()
            }

            #[cfg(test)]
            fn any(dice: &mut tests::Dice<'_>) -> Self {
                unzigzag(dice.number($bits)).try_into().expect("so many bits")
            }
        }
    )*};
}

numbers! {
    u16, i16, 16;
    u32, i32, 32;
    u64, i64, 64;
}

impl Read for bool {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        match from.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        dice.byte().is_multiple_of(2)
    }
}

impl<const N: usize> Read for [u8; N] {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        from.array()
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        std::array::from_fn(|_| dice.byte())
    }
}

impl Read for String {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        from.text().map(str::to_owned)
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        let length = dice.byte() % 70;
        (0..length).map(|_| char::from(dice.byte())).collect()
    }
}

impl Read for MachineId {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        MachineId::new(from.text()?).ok()
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        let length = usize::from(dice.byte() % 64) + 1;
        Self::new(&"mac-mini-7".repeat(7)[..length]).expect("its alphabet")
    }
}

impl<T: Read> Read for Option<T> {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        from.option(T::read)
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        dice.byte().is_multiple_of(2).then(|| T::any(dice))
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(from: &mut Bytes<'_>) -> Option<Self> {
        let count = from.varint(64)?;
        // Nothing here is less than a byte: what cannot be there gets no room.
        let most = u64::try_from(from.0.len()).ok()?;
        (count <= most).then_some(())?;
        (0..count).map(|_| T::read(from)).collect()
    }

    #[cfg(test)]
    fn any(dice: &mut tests::Dice<'_>) -> Self {
        let count = dice.byte() % 4;
        (0..count).map(|_| T::any(dice)).collect()
    }
}

macro_rules! wrapped {
    ($($name:ident)*) => {$(
        impl Read for $name {
            fn read(from: &mut Bytes<'_>) -> Option<Self> {
                Read::read(from).map($name)
            }

            #[cfg(test)]
            fn any(dice: &mut tests::Dice<'_>) -> Self {
                $name(Read::any(dice))
            }
        }
    )*};
}

wrapped! { Commitment ContentDigest JobId LogId PublicKey ReceiptId SealDigest TreeRoot }

macro_rules! structs {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Read for $name {
            fn read(from: &mut Bytes<'_>) -> Option<Self> {
                Some($name { $($field: Read::read(from)?),* })
            }

            #[cfg(test)]
            fn any(dice: &mut tests::Dice<'_>) -> Self {
                $name { $($field: Read::any(dice)),* }
            }
        }
    )*};
}

structs! {
    Costs { wall_ms, cpu_ms, peak_memory_bytes, tokens, usd_micros }
    Evidence { log, seq, seal }
    Fence { epoch, seq, digest }
    InputRef { commitment, bytes }
    JobAccepted { job, request, requester, evidence, spec, losses_max }
    JobAttemptFailed { job, fence, attempt, error, permanent, retry_at, costs, evidence }
    JobCheckpointed { job, fence, evidence }
    JobClaimed { job, claim, machine, incarnation, class, attempt, term_ms, progress }
    JobLeaseExpired { job, fence, failover_at }
    JobReady { job, reason }
    JobRequeued { job, fence, reason, evidence }
    JobResumed { job, fence }
    JobSpec {
        handler, machine, labels, priority, attempts_max, not_before, deadline, unique_key, concurrency_key,
        depends_on, hold_on_failed_dependency, retry_of, input
    }
    JobStarted { job, fence, evidence }
    JobSucceeded { job, fence, machine, verdict, result, outputs, costs, evidence }
    LogPinned { ranges }
    Outputs { manifest, count }
    PinnedRange { log, first, last, seal, root }
    RequestReceived { spec }
    RunFailed { job, fence, error, status, permanent, costs }
    RunStarted { job, fence, handler, attempt }
    RunSucceeded { job, fence, result, outputs, costs }
}

macro_rules! enums {
    ($($name:ident { $($variant:ident),* })*) => {$(
        impl Read for $name {
            fn read(from: &mut Bytes<'_>) -> Option<Self> {
                Self::ALL.get(usize::try_from(from.varint(32)?).ok()?).copied()
            }

            #[cfg(test)]
            fn any(dice: &mut tests::Dice<'_>) -> Self {
                Self::ALL[usize::from(dice.byte()) % Self::ALL.len()]
            }
        }

        impl $name {
            const ALL: &[$name] = &[$($name::$variant),*];
        }
    )*};
}

enums! {
    Class { Light, Heavy, Exclusive }
    ErrorClass { ExitStatus, Signal, Timeout, Spawn, Undeclared, Cancelled, Input, Outputs }
    ReadyReason { Accepted, Due, Retry, Released, HandlerDeclared, DependenciesMet }
    RequeueReason { NeverStarted, Lost, Yielded, LeaseExpired }
    SuccessVerdict { OnTime, Adopted }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::canonical;
    use crate::wire::tests::mutated;
    use proptest::prelude::*;
    use serde::{Serialize, de::DeserializeOwned};

    /// Numbers to make values of; zeros when they are used up.
    pub(in crate::kinds) struct Dice<'a>(std::iter::Copied<std::slice::Iter<'a, u8>>);

    impl Dice<'_> {
        pub(super) fn byte(&mut self) -> u8 {
            self.0.next().unwrap_or_default()
        }

        // At the edges of its varint, or any.
        pub(super) fn number(&mut self, bits: u32) -> u64 {
            let any = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
            any >> (64 - bits + u32::from(self.byte()) % bits)
        }
    }

    type Edits = Vec<(prop::sample::Index, u8, u8)>;

    fn same<T>(bytes: &[u8])
    where
        T: Read + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(whole::<T>(bytes), canonical::decode("detail", bytes).ok());
    }

    fn held<T>(dice: &[u8], edits: &Edits)
    where
        T: Read + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let value = T::any(&mut Dice(dice.iter().copied()));
        let bytes = canonical::encode(&value);
        assert_eq!(whole::<T>(&bytes), Some(value));
        same::<T>(&mutated(bytes, edits));
        same::<T>(dice);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn every_detail_is_read_as_by_postcard(
            dice in prop::collection::vec(any::<u8>(), 0..500),
            edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4),
        ) {
            held::<JobAccepted>(&dice, &edits);
            held::<JobAttemptFailed>(&dice, &edits);
            held::<JobCheckpointed>(&dice, &edits);
            held::<JobClaimed>(&dice, &edits);
            held::<JobLeaseExpired>(&dice, &edits);
            held::<JobReady>(&dice, &edits);
            held::<JobRequeued>(&dice, &edits);
            held::<JobResumed>(&dice, &edits);
            held::<JobStarted>(&dice, &edits);
            held::<JobSucceeded>(&dice, &edits);
            held::<LogPinned>(&dice, &edits);
            held::<RequestReceived>(&dice, &edits);
            held::<RunFailed>(&dice, &edits);
            held::<RunStarted>(&dice, &edits);
            held::<RunSucceeded>(&dice, &edits);
        }
    }
}
