//! A machine that followed an epoch further than its cut.

use crate::proven_claims::restored;
use ledger::{Changes, State};
use ledger_projections::FleetState;

#[test]
fn a_store_that_followed_an_epoch_past_its_cut_goes_on_and_is_the_same_as_any_other_once_folded_again() {
    let (now, mut then, fence, ..) = restored("render");
    let pairs = now.journal.iter().zip(&then.journal);
    let shared = pairs
        .take_while(|(now, then)| now.seal_digest() == then.seal_digest())
        .count();
    for receipt in &now.journal[shared..] {
        then.take(receipt.clone());
    }
    assert_eq!(then.state.order().map(|order| order.epoch), Some(2));
    assert!(
        then.state.fence(&fence).is_some(),
        "what does not count was folded"
    );
    let mut again: FleetState = then.state.begin_again().unwrap();
    for receipt in &then.journal {
        again.fold(receipt, &mut Changes::discarding());
    }
    assert_eq!(again, now.state);
    assert_eq!(
        (again.begin_again(), now.state.begin_again()),
        (None, None),
        "no more than once"
    );
}
